-- Fixed window: at most `rate` units from the first charged check until one window later, then a new window.
--
-- State   struct "<I4d": used, start
--           used   units charged in this window
--           start  microsecond of the window's first charge
-- Means nothing once the window has ended.

local function step(key, rate, window, _, cost, now, charge)
  local used, start = 0, now
  local state = redis.call('GET', key)
  if state then
    used, start = struct.unpack('<I4d', state)
    used = math.min(used, rate)
    if now >= start + window then
      used, start = 0, now
    end
  end
  local from_future = start > now
  start = math.min(start, now)
  local ends_in = start + window - now
  local wait = used + cost <= rate and 0 or ends_in
  local charged = charge and wait == 0
  if charged then
    used = used + cost
  end
  return wait, rate - used, used > 0 and ends_in or 0, (charged or from_future) and struct.pack('<I4d', used, start)
end
