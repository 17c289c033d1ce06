-- GCRA as a continuous-state leaky bucket (ITU-T I.371, annex A): every unit raises a level that drains at `rate`
-- per window; a check conforms while the level leaves room for it below `capacity`. The theoretical arrival time of
-- the virtual-scheduling form is stamp + level / rate. That time alone would forget the units after a change of
-- rate, so the level is what is kept. Decides exactly as token_bucket does.
--
-- State   string "<dd": level, stamp
--           level  units x window at the last conforming check, so that one microsecond drains exactly `rate`
--           stamp  microsecond of that check
-- Means nothing once drained.

local function look(key, rate, window, capacity, cost, now)
  local level, stamp = 0, now
  local state = redis.call('GET', key)
  if state then
    level, stamp = struct.unpack('<dd', state)
    level = math.min(level, capacity * window)
    level = math.max(0, level - math.max(0, now - stamp) * rate)
  end
  local tolerance = (capacity - cost) * window
  return level <= tolerance and 0 or math.ceil((level - tolerance) / rate), level, stamp > now
end

local function settle(_, rate, window, capacity, cost, now, charged, level, from_future)
  if charged then
    level = level + cost * window
  end
  local room = capacity * window - level
  local state = (charged or from_future) and struct.pack('<dd', level, now)
  return math.floor(room / window), math.ceil(level / rate), state, true
end
