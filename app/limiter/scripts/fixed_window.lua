-- Fixed window: at most `rate` units from the first charged check until one window later, then anew.
--
-- State   string "<used> <start>"
--           used   units charged in this window
--           start  microsecond of the window's first charge
-- Means nothing once the window has ended.

local window = {}

function window.read(key, limit, now)
  local used, start = string.match(redis.call('GET', key) or '0 0', '^(%d+) (%d+)$')
  used, start = math.min(tonumber(used), limit.rate), tonumber(start)
  if used == 0 or now >= start + limit.window_us then
    return { used = 0, start = now }
  end
  local from_future = start > now
  return { used = used, start = from_future and now or start, from_future = from_future }
end

function window.wait(state, limit, cost, now)
  return state.used + cost <= limit.rate and 0 or state.start + limit.window_us - now
end

function window.charge(state, _, cost)
  state.used = state.used + cost
end

function window.left(state, limit, now)
  return limit.rate - state.used, state.used > 0 and state.start + limit.window_us - now or 0
end

function window.write(key, state, _, ttl_ms)
  redis.call('SET', key, string.format('%.0f %.0f', state.used, state.start), 'PX', ttl_ms)
end

return window
