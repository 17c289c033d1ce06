-- GCRA as a continuous-state leaky bucket (ITU-T I.371, annex A). Each unit raises a level that drains at `rate` per
-- window. A check conforms if its cost still fits below `capacity`. Decides exactly as token_bucket does.
-- The theoretical arrival time of the virtual-scheduling form is stamp + level / rate. The level is stored instead,
-- because after a change of rate that time alone would lose the units.
--
-- State   struct "<dd": level, stamp
--           level  units x window at the last conforming check, so that one microsecond drains exactly `rate`
--           stamp  microsecond of that check
-- Means nothing once drained.

local function step(key, rate, window, capacity, cost, now, charge)
  local level, stamp = 0, now
  local state = redis.call('GET', key)
  if state then
    level, stamp = struct.unpack('<dd', state)
    local drained = math.max(0, now - stamp) * rate
    level = math.max(0, math.min(level, capacity * window) - drained)
  end
  local tolerance = (capacity - cost) * window
  local wait = level <= tolerance and 0 or math.ceil((level - tolerance) / rate)
  local charged = charge and wait == 0
  if charged then
    level = level + cost * window
  end
  local room = math.floor((capacity * window - level) / window)
  return wait, room, math.ceil(level / rate), (charged or stamp > now) and struct.pack('<dd', level, now), true
end
