-- Fixed window: at most `rate` units from the first charged check until one window later, then anew.
--
-- State   string "<I4d": used, start
--           used   units charged in this window
--           start  microsecond of the window's first charge
-- Means nothing once the window has ended.

local function look(key, rate, window, _, cost, now)
  local used, start = 0, now
  local state = redis.call('GET', key)
  if state then
    used, start = struct.unpack('<I4d', state)
    used = math.min(used, rate)
    if now >= start + window then
      used, start = 0, now
    end
  end
  local ends_in = math.min(start, now) + window - now
  return used + cost <= rate and 0 or ends_in, used, ends_in, start > now
end

local function settle(_, rate, window, _, cost, now, charged, used, ends_in, from_future)
  if charged then
    used = used + cost
  end
  local state = (charged or from_future) and struct.pack('<I4d', used, now + ends_in - window)
  return rate - used, used > 0 and ends_in or 0, state
end
