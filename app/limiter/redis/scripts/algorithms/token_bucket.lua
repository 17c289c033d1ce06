-- Token bucket: holds `capacity` tokens, refilled continuously at `rate` tokens per window.
--
-- State   struct "<dd": spent, stamp
--           spent  tokens missing from a full bucket x window, so that one microsecond refills exactly `rate`
--           stamp  microsecond of the last charge
-- Means nothing once the bucket is full again.
-- spent + cost is never formed before the check: (capacity - cost) x window keeps every number below 2^53.

local function step(key, rate, window, capacity, cost, now, charge)
  local spent, stamp = 0, now
  local state = redis.call('GET', key)
  if state then
    spent, stamp = struct.unpack('<dd', state)
    spent = math.min(spent, capacity * window)
    if stamp < now then
      spent = math.max(0, spent - (now - stamp) * rate)
    end
  end
  local missing = spent - (capacity - cost) * window
  local charged = charge and missing <= 0
  if charged then
    spent = spent + cost * window
  end
  local wait = missing > 0 and math.ceil(missing / rate) or 0
  local left = math.floor((capacity * window - spent) / window)
  return wait, left, math.ceil(spent / rate), (charged or stamp > now) and struct.pack('<dd', spent, now), true
end
