-- Refunds the permits of a lease that its holder did not use. Idempotent: a repeated call returns the same total.
-- Prepended when the script is assembled: clock.lua, and refund.lua with its algorithms' names by number.
--
-- KEYS[i]  the counter of limit i; the last key: the lease
-- ARGV[1]  now, as in check.lua
-- ARGV[2]  request, as in check.lua; its cost is the number of unused permits
-- Returns  struct "<I4I4i8i8i8i4", as lease.lua. Three fields count: the second, units refunded by this call; now; and
--          the last, units refunded when the lease was returned, -1: no such lease (any more).
--          Units refunded are those of the limit with the largest refund, because the other limits had already
--          dropped more of them.
-- Writes   what refund.lua writes, and the lease with the number refunded. Both keep their TTL.

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
