-- Now, in microseconds: ARGV[3], which tests give; else the server's TIME.

local now = tonumber(ARGV[3])
if not now then
  local time = redis.call('TIME')
  now = time[1] * 1000000 + time[2]
end
