-- Sliding window counter: two epoch-aligned windows. The previous one counts by the share of it that a window ending
-- now still overlaps. used = current + previous x (window - offset) / window, compared without the division.
--
-- State   struct "<I4I4I4": index, current, previous
--           index     number of the epoch-aligned window that `current` counts (four bytes last until 2106)
--           current   units charged in it        previous   units charged in the one before
-- Means nothing once the window after `index` has ended.

local function step(key, rate, window, _, cost, now, charge)
  local index, current, previous, from_future = math.floor(now / window), 0, 0, false
  local ahead = (index + 1) * window - now -- microseconds until the next window begins
  local state = redis.call('GET', key)
  if state then
    local counted, newer, older = struct.unpack('<I4I4I4', state)
    from_future = counted > index
    if counted >= index then
      current, previous = math.min(newer, rate), math.min(older, rate)
    elseif counted == index - 1 then
      previous = math.min(newer, rate)
    end
  end
  local room, wait = (rate - current - cost) * window, 0
  if room < 0 then -- the cost does not fit in this window; in the next one, `current` is the weight that slides out
    wait = ahead + window - math.floor((rate - cost) * window / current)
  elseif room < previous * ahead then
    wait = ahead - math.floor(room / previous)
  end
  local charged = charge and wait == 0
  if charged then
    current = current + cost
  end
  local left = math.max(0, math.floor(((rate - current) * window - previous * ahead) / window))
  local reset = current > 0 and ahead + window or previous > 0 and ahead or 0
  return wait, left, reset, (charged or from_future) and struct.pack('<I4I4I4', index, current, previous)
end
