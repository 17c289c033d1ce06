-- Sliding window counter: two epoch-aligned windows; the previous one counts by the share of it that a window ending
-- now still overlaps. used = current + previous x (window - offset) / window, compared without the division.
--
-- State   string "<index> <current> <previous>"
--           index     number of the epoch-aligned window that `current` counts
--           current   units charged in it        previous   units charged in the one before
-- Means nothing once the window after `index` has ended.

local counter = {}

function counter.read(key, limit, now)
  local index, current, previous = string.match(redis.call('GET', key) or '0 0 0', '^(%d+) (%d+) (%d+)$')
  index, current, previous = tonumber(index), tonumber(current), tonumber(previous)
  local state = { index = math.floor(now / limit.window_us), current = 0, previous = 0 }
  state.ahead = (state.index + 1) * limit.window_us - now -- microseconds until the next window begins
  state.from_future = index > state.index
  if index >= state.index then
    state.current, state.previous = math.min(current, limit.rate), math.min(previous, limit.rate)
  elseif index == state.index - 1 then
    state.previous = math.min(current, limit.rate)
  end
  return state
end

function counter.wait(state, limit, cost)
  local room = (limit.rate - state.current - cost) * limit.window_us
  if room >= state.previous * state.ahead then
    return 0
  elseif room >= 0 then
    return state.ahead - math.floor(room / state.previous)
  end
  -- Not in this window: in the next one `current` is what slides out.
  room = (limit.rate - cost) * limit.window_us
  return state.ahead + limit.window_us - math.floor(room / state.current)
end

function counter.charge(state, _, cost)
  state.current = state.current + cost
end

function counter.left(state, limit)
  local room = (limit.rate - state.current) * limit.window_us - state.previous * state.ahead
  local reset = state.current > 0 and state.ahead + limit.window_us or state.previous > 0 and state.ahead or 0
  return math.max(0, math.floor(room / limit.window_us)), reset
end

function counter.write(key, state, _, ttl_ms)
  redis.call('SET', key, string.format('%.0f %.0f %.0f', state.index, state.current, state.previous), 'PX', ttl_ms)
end

return counter
