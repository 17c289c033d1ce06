-- The current time in microseconds: ARGV[1], which tests set, or the server's TIME if that is empty.

local given = tonumber(ARGV[1])
local now = given
if not given then
  local time = redis.call('TIME')
  now = time[1] * 1000000 + time[2]
end
