-- Token bucket: holds `capacity` tokens, refilled continuously at `rate` tokens per window.
--
-- State   string "<spent> <stamp>"
--           spent  tokens missing from a full bucket x window_us, so that one microsecond refills exactly `rate`
--           stamp  microsecond of the last charge
-- Means nothing once the bucket is full again.
-- spent + cost is never formed before the check: (capacity - cost) x window_us keeps every number below 2^53.

local bucket = {}

function bucket.read(key, limit, now)
  local spent, stamp = string.match(redis.call('GET', key) or '0 0', '^(%d+) (%d+)$')
  local state = { spent = math.min(tonumber(spent), limit.capacity * limit.window_us) }
  local elapsed = now - tonumber(stamp)
  state.from_future = elapsed < 0
  if not state.from_future then
    state.spent = math.max(0, state.spent - elapsed * limit.rate)
  end
  return state
end

function bucket.wait(state, limit, cost)
  local missing = state.spent - (limit.capacity - cost) * limit.window_us
  return math.max(0, math.ceil(missing / limit.rate))
end

function bucket.charge(state, limit, cost)
  state.spent = state.spent + cost * limit.window_us
end

function bucket.left(state, limit)
  local free = limit.capacity * limit.window_us - state.spent
  return math.floor(free / limit.window_us), math.ceil(state.spent / limit.rate)
end

function bucket.write(key, state, now, ttl_ms)
  redis.call('SET', key, string.format('%.0f %.0f', state.spent, now), 'PX', ttl_ms)
end

return bucket
