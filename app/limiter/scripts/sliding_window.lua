-- Sliding window: the exact log. At most `rate` units in any window-long stretch of time.
--
-- State   string  "<ddd" first, before, oldest; then the entries, oldest to newest, each "<dd" stamp, total (16 bytes)
--           stamp   microsecond of a charged check, never falling
--           total   units logged up to and including it, never falling; so any sum is one subtraction
--           first   place of the oldest entry that still counts (0…); those before it have left the window
--           before  total of the entry before that one
--           oldest  its stamp
-- An entry from the future counts as stamped now.
-- Means nothing once the newest entry has left the window. Any entry is read in constant time, so a check reads O(log n):
-- a search gallops from the old end. What has left is cut off once it is half as much as what counts, and copying what
-- counts is then paid for by the charges since.

local HEAD, ENTRY = 24, 16

-- Stamp and total of an entry; of one after the newest, infinity.
local function entry_at(key, place)
  local start = HEAD + ENTRY * place
  local entry = redis.call('GETRANGE', key, start, start + ENTRY - 1)
  if entry == '' then
    return math.huge, math.huge
  end
  return struct.unpack('<dd', entry)
end

-- The first entry from `place` on that is stamped after `stamp` and beyond the total `total`.
local function search(key, place, stamp, total)
  local function reached(at)
    local stamped, counted = entry_at(key, at)
    return stamped > stamp and counted > total
  end
  if reached(place) then
    return place
  end
  local stride = 1
  while not reached(place + stride) do
    place, stride = place + stride, stride * 2
  end
  while stride > 1 do -- it lies within (place, place + stride]
    stride = stride / 2
    if not reached(place + stride) then
      place = place + stride
    end
  end
  return place + 1
end

local function step(key, rate, window, _, cost, now, charge)
  local head = redis.call('GETRANGE', key, 0, HEAD - 1)
  local first, before, oldest, stamp, total, moved = 0, 0, now, now, 0, false
  if head ~= '' then
    first, before, oldest = struct.unpack('<ddd', head)
    stamp, total = struct.unpack('<dd', redis.call('GETRANGE', key, -ENTRY, -1))
    if stamp <= now - window then -- all have left
      head, first, before, total = '', 0, 0, 0
    elseif oldest <= now - window then
      moved, first = true, search(key, first, now - window, -1)
      oldest = entry_at(key, first)
      before = select(2, entry_at(key, first - 1))
    end
  end
  local used, from_future, wait = total - before, head ~= '' and stamp > now, 0
  if cost > rate then
    wait = math.huge
  elseif used + cost > rate then -- until enough of the oldest have left
    wait = math.min(entry_at(key, search(key, first, -1, total + cost - rate - 1)), now) + window - now
  end
  local charged = charge and wait == 0
  if charged then
    total, used = total + cost, used + cost
  end
  local reset = used > 0 and (charged and now or math.min(stamp, now)) + window - now or 0
  return wait, math.max(0, rate - used), reset, (charged or from_future) and function()
    local newest = struct.pack('<dd', now, total)
    local stop = from_future and search(key, first, now, -1) or nil -- the first entry of those that are replaced
    if head == '' or stop == first then
      redis.call('SET', key, struct.pack('<ddd', 0, before, now) .. newest)
    elseif stop or moved and first * ENTRY * 2 > redis.call('STRLEN', key) - first * ENTRY then
      local counting = redis.call('GETRANGE', key, HEAD + ENTRY * first, stop and HEAD + ENTRY * stop - 1 or -1)
      redis.call('SET', key, struct.pack('<ddd', 0, before, oldest) .. counting .. newest)
    else
      if moved then
        redis.call('SETRANGE', key, 0, struct.pack('<ddd', first, before, oldest))
      end
      redis.call('APPEND', key, newest)
    end
  end
end
