-- Sliding window: the exact log. At most `rate` units in any window-long stretch of time.
--
-- State   list  stamp 1, total 1, stamp 2, total 2, …    (integers: 15-16 bytes an entry)
--           stamp  microsecond of a charged check, never falling
--           total  units logged up to and including it, never falling; so any sum is one subtraction
-- The first entry is a base: it has left the window (or is "0 0"), only its total counts. An entry from the future
-- counts as stamped now.
-- Means nothing once the newest entry has left the window. Searches gallop from the old end, where the few entries
-- that left since the last charge are: a check costs O(log n) reads at any length.

local STAMP, TOTAL = 0, 1

local function at(key, entry, field)
  return tonumber(redis.call('LINDEX', key, 2 * entry + field))
end

-- The last entry from `first` on whose field is at most `bound`; `first` itself where there is none.
local function last(key, first, field, bound)
  local step = 1
  while (at(key, first + step, field) or math.huge) <= bound do
    first, step = first + step, step * 2
  end
  while step > 1 do
    step = step / 2
    if (at(key, first + step, field) or math.huge) <= bound then
      first = first + step
    end
  end
  return first
end

local function step(key, rate, window, _, cost, now, charge)
  local stamp, total = unpack(redis.call('LRANGE', key, -2, -1))
  local before, base, empty = 0, 0, not total
  if empty then
    stamp, total = now, 0
  else
    stamp, total = tonumber(stamp), tonumber(total)
    local oldest = redis.call('LRANGE', key, 1, 2) -- the total of the base, the stamp of the entry after it
    before = tonumber(oldest[1])
    if tonumber(oldest[2]) <= now - window then
      base = last(key, 1, STAMP, now - window)
      before = at(key, base, TOTAL)
    end
  end
  local used, from_future, wait = total - before, stamp > now, 0
  if used + cost > rate then
    local short = last(key, base, TOTAL, total + cost - rate - 1)
    wait = math.min(at(key, short + 1, STAMP) or now, now) + window - now
  end
  local charged = charge and wait == 0
  if charged then
    total, used = total + cost, used + cost
  end
  local reset = used > 0 and (charged and now or math.min(stamp, now)) + window - now or 0
  return wait, math.max(0, rate - used), reset, (charged or from_future) and function()
    if empty then
      redis.call('RPUSH', key, 0, 0)
    elseif base > 0 or from_future then
      redis.call('LTRIM', key, 2 * base, from_future and 2 * last(key, base, STAMP, now) + 1 or -1)
    end
    redis.call('RPUSH', key, now, total)
  end
end
