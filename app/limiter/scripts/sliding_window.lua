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

local function look(key, rate, window, _, cost, now)
  local newest = redis.call('LRANGE', key, -2, -1)
  if not newest[1] then
    return 0, { used = 0, total = 0, newest = now }
  end
  local log = { total = tonumber(newest[2]), newest = tonumber(newest[1]), base = 0 }
  log.from_future, log.newest = log.newest > now, math.min(log.newest, now)
  local oldest = redis.call('LRANGE', key, 1, 2) -- the total of the base, the stamp of the entry after it
  local before = tonumber(oldest[1])
  if tonumber(oldest[2]) <= now - window then
    log.base = last(key, 1, STAMP, now - window)
    before = at(key, log.base, TOTAL)
  end
  log.used = log.total - before
  if log.used + cost <= rate then
    return 0, log
  end
  local short = last(key, log.base, TOTAL, log.total + cost - rate - 1)
  return math.min(at(key, short + 1, STAMP) or now, now) + window - now, log
end

local function settle(key, rate, window, _, cost, now, charged, log)
  if charged then
    log.total, log.used, log.newest = log.total + cost, log.used + cost, now
  end
  local written = charged or (log.from_future and cost > 0)
  if not log.base and charged then
    redis.call('RPUSH', key, 0, 0, now, log.total)
  elseif written then
    if log.base > 0 or log.from_future then
      local behind = log.from_future and 2 * last(key, log.base, STAMP, now) + 1 or -1
      redis.call('LTRIM', key, 2 * log.base, behind)
    end
    redis.call('RPUSH', key, now, log.total)
  end
  return math.max(0, rate - log.used), log.used > 0 and log.newest + window - now or 0, written
end
