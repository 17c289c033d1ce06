-- Grants permits of one rule's limits to a holder for a time: as many as every limit has left, charged at once.
-- Prepended when the script is assembled: clock.lua, persist.lua, the steps of all algorithms and multi_limit.lua.
--
-- KEYS[i]  the counter of limit i; the last key: the lease
-- ARGV[1]  now, as in check.lua
-- ARGV[2]  request, as in check.lua; its cost is the number of permits wanted, at least 1
-- ARGV[3]  duration of the lease (microseconds)
-- Returns  struct "<I4I4i8i8i8i4": check.lua's result for a check of the granted cost, or of cost 1 if nothing was
--          granted; then the number granted
-- Writes   on a grant: what check.lua writes for a check of that cost, and the lease, until it expires:
--          struct "<ddI4i4": granted at (microseconds), expires at, granted, returned (-1: not yet); then per limit
--          "<ddd": what a bucket then held (units x window) in its algorithm's representation, 0 for other algorithms;
--          its rate and its capacity.
--          Otherwise what check.lua writes for a denial.

local lasts = ARGV[3]
local wanted, count = struct.unpack('<dd', request)

local function of_limit(i)
  local rate, window, capacity, algorithm = struct.unpack('<dddd', request, 32 * i - 15)
  local _, _, _, _, bucket = steps[algorithm](KEYS[i], rate, window, capacity, 0, now, false)
  local held = bucket and struct.unpack('<d', redis.call('GET', KEYS[i])) or 0
  return struct.pack('<ddd', held, rate, capacity)
end

local _, _, free = settle(1, count, 0, now, false, 0)
local granted = math.min(wanted, free)
local wait, binding, left, reset = settle(1, count, math.max(granted, 1), now, granted > 0, 0)

if granted > 0 then
  local ttl_ms = math.ceil(lasts / 1000)
  if given then
    ttl_ms = math.max(ttl_ms, 3600000) -- as in persist.lua
  end
  local lease = struct.pack('<ddI4i4', now, now + lasts, granted, -1)
  for i = 1, count do
    lease = lease .. of_limit(i)
  end
  redis.call('SET', KEYS[#KEYS], lease, 'PX', ttl_ms)
end
return struct.pack('<I4I4i8i8i8i4', binding, left, wait, reset, now, granted)
