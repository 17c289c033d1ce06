-- Sliding window: the exact log. At most `rate` units in any window-long stretch of time.
--
-- State   string  "<ddd" first, before, oldest; then the entries, oldest to newest, each "<dd" stamp, total (16 bytes)
--           stamp   microsecond of a charged check, never falling
--           total   units logged up to and including it, never falling; so any sum is one subtraction
--           first   index of the oldest entry that still counts (0…); those before it have left the window
--           before  total of the entry before that one
--           oldest  stamp of that oldest entry
-- An entry from the future counts as stamped now.
-- Means nothing once the newest entry has left the window.
-- Any piece is read in constant time. A check reads O(log n) pieces, and mostly one: the old end, where few entries
-- have left since the last charge. Expired entries are cut off once they are half as many as those that count, and the
-- charges since then have paid for the copy.

local HEAD, ENTRY, PIECE = 24, 16, 32 -- bytes, bytes, entries

-- Reads `count` entries from index `place` on, or as many as there are.
local function read(key, place, count)
  local start = HEAD + ENTRY * place
  return redis.call('GETRANGE', key, start, start + ENTRY * count - 1)
end

-- Finds the first entry from index `place` on that is stamped after `stamp` and has a total above `total`. Returns its
-- index, its stamp, and the total of the entry before it; `before` is that total for the entry at `place`.
-- If there is none, returns the index after the newest.
local function search(key, place, stamp, total, before)
  local function reached(entry)
    local stamped, counted = struct.unpack('<dd', entry)
    return stamped > stamp and counted > total
  end
  local piece = read(key, place, PIECE)
  if #piece == ENTRY * PIECE and not reached(string.sub(piece, -ENTRY)) then -- the entry lies further on
    local low, high = place + PIECE, (redis.call('STRLEN', key) - HEAD) / ENTRY
    while high - low > PIECE do -- it is in low … high
      local middle = math.floor((low + high) / 2)
      if reached(read(key, middle, 1)) then
        high = middle
      else
        low = middle + 1
      end
    end
    place, piece = low - 1, read(key, low - 1, PIECE + 2)
  end
  for start = 1, #piece, ENTRY do
    local stamped, counted = struct.unpack('<dd', piece, start)
    if stamped > stamp and counted > total then
      return place, stamped, before
    end
    place, before = place + 1, counted
  end
  return place, math.huge, before
end

local function step(key, rate, window, _, cost, now, charge)
  local head = redis.call('GETRANGE', key, 0, HEAD - 1)
  local first, before, oldest, stamp, total, moved = 0, 0, now, now, 0, false
  if head ~= '' then
    first, before, oldest = struct.unpack('<ddd', head)
    stamp, total = struct.unpack('<dd', redis.call('GETRANGE', key, -ENTRY, -1))
    if stamp <= now - window then -- all entries have left
      head, first, before, total = '', 0, 0, 0
    elseif oldest <= now - window then
      moved = true
      first, oldest, before = search(key, first, now - window, -1, before)
    end
  end
  local used, from_future, wait = total - before, head ~= '' and stamp > now, 0
  if cost > rate then
    wait = math.huge
  elseif used + cost > rate then -- wait until enough of the oldest have left
    local _, leaves = search(key, first, -1, total + cost - rate - 1)
    wait = math.min(leaves, now) + window - now
  end
  local charged = charge and wait == 0
  if charged then
    total, used = total + cost, used + cost
  end
  local reset = used > 0 and (charged and now or math.min(stamp, now)) + window - now or 0
  return wait, math.max(0, rate - used), reset, (charged or from_future) and function()
    local newest = struct.pack('<dd', now, total)
    local stop = from_future and search(key, first, now, -1) or nil -- the first of the entries to replace
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
