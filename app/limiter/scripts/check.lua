-- Decides the limits of one rule for one client: checks them all, then charges them all or none.
-- Put in front of it when the script is loaded: keep.lua, and two functions that know the limit: those of the file of
-- its algorithm, or those of several.lua.
--   look(key, rate, window, capacity, cost, now)
--     -> microseconds until cost (at most capacity) fits, 0: it fits now; then up to three values for settle. Writes nothing.
--   settle(key, rate, window, capacity, cost, now, charged, …)  adds cost to the state if charged
--     -> whole units left; microseconds until the state means nothing; what keep.lua calls state and rated;
--        the binding limit (0…) where there are several
--
-- KEYS[i]  the counter of limit i; after the counters, where a request id was given, the answer kept under it
-- ARGV[1]  struct "<d": cost (units; 0 looks without writing), then for each limit "<dddd": rate (units per window),
--          window (microseconds), capacity (units at once), number of its algorithm
-- ARGV[2]  what the request id stands for; absent or "" without one
-- ARGV[3]  now (microseconds); absent in production: the server's TIME
-- Returns  struct "<I4I4ddd": binding limit (0…), its remaining, retry after (microseconds; 0: allowed, infinite:
--          never), its reset after, now; "" where the request id stands for another check
-- Writes   every KEYS[i] when charged, with the time until it means nothing as TTL, and the answer for a minute.
--          Otherwise nothing, but for
--          - a state from the future (the clock stepped back): re-stamped to now without refill, so that nobody waits
--            more than one window longer and nobody gains;
--          - the TTL of a state that, since its limit was edited, means something for longer than when it was charged.

local cost, rate, window, capacity = struct.unpack('<dddd', ARGV[1])
local answer = KEYS[(#ARGV[1] - 8) / 32 + 1]
if answer then
  local kept = redis.call('GET', answer)
  if kept then
    return kept:sub(33) == ARGV[2] and kept:sub(1, 32) or ''
  end
end

local now = tonumber(ARGV[3])
if not now then
  local time = redis.call('TIME')
  now = time[1] * 1000000 + time[2]
end

local wait, a, b, c = look(KEYS[1], rate, window, capacity, cost, now)
if cost > capacity then
  wait = math.huge
elseif cost == 0 then
  wait = 0
end
local charged = wait == 0 and cost > 0
local left, reset, state, rated, binding = settle(KEYS[1], rate, window, capacity, cost, now, charged, a, b, c)
if cost > 0 then
  keep(KEYS[1], state, reset, rated)
end

local reply = struct.pack('<I4I4ddd', binding or 0, left, wait, reset, now)
if answer and charged then
  redis.call('SET', answer, reply .. ARGV[2], 'PX', 60000)
end
return reply
