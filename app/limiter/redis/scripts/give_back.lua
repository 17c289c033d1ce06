-- Gives back what a call of check_together.lua charged, as if it had charged nothing: windows exactly, buckets as the
-- return of a lease. Frees its request ids.
-- Prepended: clock.lua, and refund.lua with its algorithms' names by number.
--
-- KEYS     as in that call
-- ARGV[1]  now, as in check.lua
-- ARGV[2]  its last result: struct "<dI4" time of the charge, number of counters; for each counter "<I4ddddd" index of
--          its key, units, what a bucket then held, rate, window, number of its algorithm; then indexes "<I4" of the
--          marks in request_ids.lua
-- Returns  "OK"
-- Writes   what refund.lua writes, and removes the marks. Refunds nothing if another call has joined one of them: the
--          charge is that call's now.

local at, count = struct.unpack('<dI4', ARGV[2])
local joined = false
for place = 13 + 44 * count, #ARGV[2], 4 do
  local mark = KEYS[(struct.unpack('<I4', ARGV[2], place))]
  local id = redis.call('GET', mark)
  joined = joined or id and #id > 16
  redis.call('UNLINK', mark)
end

for i = 1, joined and 0 or count do
  local place, units, held, rate, window, algorithm = struct.unpack('<I4ddddd', ARGV[2], 44 * i - 31)
  local key = KEYS[place]
  credits[names[algorithm]](key, rate, window, units, at, now, held)
  -- A fixed window without units has not begun.
  if names[algorithm] == 'fixed_window' and struct.unpack('<I4', redis.call('GET', key) or 'used') == 0 then
    redis.call('UNLINK', key)
  end
end
return 'OK'
