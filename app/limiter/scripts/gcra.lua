-- GCRA as a continuous-state leaky bucket (ITU-T I.371, annex A): every unit raises a level that drains at `rate`
-- per window; a check conforms while the level leaves room for it below `capacity`. The theoretical arrival time of
-- the virtual-scheduling form is stamp + level / rate. That time alone would forget the units after a change of
-- rate, so the level is what is kept. Decides exactly as token_bucket does.
--
-- State   string "<level> <stamp>"
--           level  units x window_us at the last conforming check, so that one microsecond drains exactly `rate`
--           stamp  microsecond of that check
-- Means nothing once drained.

local gcra = {}

function gcra.read(key, limit, now)
  local level, stamp = string.match(redis.call('GET', key) or '0 0', '^(%d+) (%d+)$')
  level, stamp = math.min(tonumber(level), limit.capacity * limit.window_us), tonumber(stamp)
  local drained = math.max(0, now - stamp) * limit.rate
  return { level = math.max(0, level - drained), from_future = stamp > now }
end

function gcra.wait(state, limit, cost)
  local tolerance = (limit.capacity - cost) * limit.window_us
  return state.level <= tolerance and 0 or math.ceil((state.level - tolerance) / limit.rate)
end

function gcra.charge(state, limit, cost)
  state.level = state.level + cost * limit.window_us
end

function gcra.left(state, limit)
  local room = limit.capacity * limit.window_us - state.level
  return math.floor(room / limit.window_us), math.ceil(state.level / limit.rate)
end

function gcra.write(key, state, now, ttl_ms)
  redis.call('SET', key, string.format('%.0f %.0f', state.level, now), 'PX', ttl_ms)
end

return gcra
