-- Takes back the permits of a lease that its holder did not use. Once: asked again it answers the same.
-- Put in front of it when the script is loaded: clock.lua, and refund.lua with the names of its algorithms by number.
--
-- KEYS[i]  the counter of limit i; the last: the lease
-- ARGV[1]  now, as check.lua has it
-- ARGV[2]  what is asked, likewise; its cost is how many permits were not used
-- Returns  struct "<I4I4i8i8i8i4", as lease.lua; of it only the second: how many units were given back just now, now, and
--          the last: how many were given back when the lease was returned, -1: there is no such lease (any more).
--          Of several limits that which was given the most: the others had forgotten more of them
-- Writes   what refund.lua writes, and the lease with the count, both with the time to live that they have.

local lease = KEYS[#KEYS]
local unused, count = struct.unpack('<dd', ARGV[2])
local kept = redis.call('GET', lease)
local at, expires, granted, returned, just_now = 0, 0, 0, -1, 0
if kept then
  at, expires, granted, returned = struct.unpack('<ddI4i4', kept)
end

if now >= expires then
  returned = -1
elseif returned < 0 then
  local units = math.min(unused, granted)
  returned = 0
  for i = 1, count do
    local rate, window, capacity, algorithm = struct.unpack('<dddd', ARGV[2], 32 * i - 15)
    local held, rate_then, capacity_then = struct.unpack('<ddd', kept, 1 + 24 * i)
    local edited = rate ~= rate_then or capacity ~= capacity_then
    local credited = credits[names[algorithm]](KEYS[i], rate, window, units, at, now, not edited and held)
    returned = math.max(returned, credited)
  end
  just_now = returned
  redis.call('SET', lease, struct.pack('<ddI4i4', at, expires, granted, returned), 'KEEPTTL')
end
return struct.pack('<I4I4i8i8i8i4', 1, just_now, 0, 0, now, returned)
