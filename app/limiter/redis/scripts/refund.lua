-- Refunds charged but unused units, for each algorithm in the state that its own file describes.
--   credits.NAME(key, rate, window, units, at, now, held)
--     units  to refund; charged at `at`
--     held   what a bucket held at `at`; false: its limit was edited since
--     -> units refunded, rounded up: fewer, or none, if they no longer count
-- Leaves the state as if the units had never been charged, or with more consumed. Its TTL stays.

-- Log entries that are searched: a charge with this many later charges gets no refund.
local MANY = 1000

local credits = {}

-- A bucket that would have been empty meanwhile has dropped part of the units. So the refund is at most the least
-- level since the charge. Until the last charge, that is at least `held` minus the drain; after it, the current level.
-- After an edit, neither the drain rate nor the loss from a cut capacity is known.
function credits.token_bucket(key, rate, window, units, at, now, held)
  local state = redis.call('GET', key)
  if not state then
    return 0
  end
  local spent, stamp = struct.unpack('<dd', state)
  local least = spent - math.max(0, now - stamp) * rate
  if stamp ~= at then
    least = held and math.min(least, held - math.max(0, stamp - at) * rate) or 0
  end
  local credit = math.max(0, math.min(units * window, least))
  redis.call('SET', key, struct.pack('<dd', spent - credit, stamp), 'KEEPTTL')
  return math.ceil(credit / window)
end

credits.gcra = credits.token_bucket

function credits.fixed_window(key, _, window, units, at, now)
  local state = redis.call('GET', key)
  local used, start = 0, math.huge
  if state then
    used, start = struct.unpack('<I4d', state)
  end
  if at < start or math.max(at, now) >= start + window then
    return 0
  end
  local credit = math.min(units, used)
  redis.call('SET', key, struct.pack('<I4d', used - credit, start), 'KEEPTTL')
  return credit
end

function credits.sliding_window_counter(key, _, window, units, at, now)
  local state, ours = redis.call('GET', key), math.floor(at / window)
  if not state or math.floor(now / window) > ours + 1 then
    return 0
  end
  local index, current, previous = struct.unpack('<I4I4I4', state)
  local in_current, in_previous = index == ours, index == ours + 1
  local credit = math.min(units, in_current and current or in_previous and previous or 0)
  current, previous = current - (in_current and credit or 0), previous - (in_previous and credit or 0)
  redis.call('SET', key, struct.pack('<I4I4I4', index, current, previous), 'KEEPTTL')
  return credit
end

-- Any of the entries stamped `at` may hold the charge: together they have at least its units. No total falls below the
-- one before.
function credits.sliding_window(key, _, window, units, at, now)
  local HEAD, ENTRY = 24, 16
  local count = (redis.call('STRLEN', key) - HEAD) / ENTRY
  if count < 1 or at <= now - window then
    return 0
  end
  local from = math.max(-1, count - MANY - 1) -- -1: the head, whose last 16 bytes begin with its `before`
  local entries = redis.call('GETRANGE', key, HEAD + from * ENTRY, -1)
  local function entry(place)
    return struct.unpack('<dd', entries, (place - from) * ENTRY + 1)
  end
  local theirs = count
  while theirs > from + 1 and entry(theirs - 1) >= at do
    theirs = theirs - 1
  end
  if theirs == count or entry(theirs) ~= at then
    return 0
  end
  local before = theirs > 0 and select(2, entry(theirs - 1)) or entry(-1)
  local last, changed, total = select(2, entry(count - 1)), {}, 0
  for place = theirs, count - 1 do
    local stamp, counted = entry(place)
    total = math.max(before, counted - units)
    changed[#changed + 1] = struct.pack('<dd', stamp, total)
  end
  redis.call('SETRANGE', key, HEAD + theirs * ENTRY, table.concat(changed))
  return last - total
end
