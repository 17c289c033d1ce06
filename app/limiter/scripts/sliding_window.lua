-- Sliding window: the exact log. At most `rate` units in any window-long stretch of time.
--
-- State   list  stamp 1, total 1, stamp 2, total 2, …    (integers: 15-16 bytes an entry)
--           stamp  microsecond of a charged check, never falling
--           total  units logged up to and including it, never falling; so any sum is one subtraction
-- The first entry is a base: it has left the window (or is "0 0"), only its total counts.
-- Means nothing once the newest entry has left the window. Searches gallop from the old end, where the few entries
-- that left since the last charge are: a check costs O(log n) reads at any length.

local log = {}

local function at(key, index)
  return tonumber(redis.call('LINDEX', key, index))
end

-- The last entry in [first, count) for which `holds` is true; `first` itself where there is none.
local function last(first, count, holds)
  local step = 1
  while first + step < count and holds(first + step) do
    first, step = first + step, step * 2
  end
  while step > 1 do
    step = step / 2
    if first + step < count and holds(first + step) then
      first = first + step
    end
  end
  return first
end

local function last_stamped(key, count, bound)
  return last(0, count, function(i) return at(key, 2 * i) <= bound end)
end

function log.read(key, limit, now)
  local count = redis.call('LLEN', key) / 2
  if count == 0 then
    return { key = key, count = 0, base = 0, total = 0, used = 0, newest = now }
  end
  local state = { key = key, count = count, newest = at(key, -2), total = at(key, -1) }
  if state.newest > now then -- what lies in the future becomes one entry stamped now
    state.from_future, state.newest = true, now
    state.count = last_stamped(key, count, now) + 1
  end
  state.base = last_stamped(key, state.count, now - limit.window_us)
  state.used = state.total - at(key, 2 * state.base + 1)
  return state
end

function log.wait(state, limit, cost, now)
  local surplus = state.used + cost - limit.rate
  if surplus <= 0 then
    return 0
  end
  local enough = state.total - state.used + surplus
  local short = last(state.base, state.count, function(i) return at(state.key, 2 * i + 1) < enough end)
  local stamp = short + 1 < state.count and at(state.key, 2 * short + 2) or state.newest
  return stamp + limit.window_us - now
end

function log.charge(state, _, cost, now)
  state.total, state.used, state.newest = state.total + cost, state.used + cost, now
end

function log.left(state, limit, now)
  return math.max(0, limit.rate - state.used), state.used > 0 and state.newest + limit.window_us - now or 0
end

function log.write(key, state, now, ttl_ms)
  if state.count == 0 then
    redis.call('RPUSH', key, 0, 0)
  elseif state.base > 0 or state.from_future then
    redis.call('LTRIM', key, 2 * state.base, 2 * state.count - 1)
  end
  redis.call('RPUSH', key, now, state.total)
  redis.call('PEXPIRE', key, ttl_ms)
end

return log
