-- Decides all limits of one rule for one client: checks them all, then charges them all or none.
-- `algorithms` holds the functions of the algorithm files, put in front of this one when the script is loaded:
--   read(key, limit, now)            -> state, drained or slid to now
--   wait(state, limit, cost, now)    -> microseconds until cost (at most capacity) fits; 0: it fits now
--   charge(state, limit, cost, now)  adds cost to the state in memory
--   left(state, limit, now)          -> whole units left, microseconds until the state means nothing
--   write(key, state, now, ttl_ms)   stores the state
--
-- KEYS[i]  the counter of limit i; after the counters, where a request id was given, the answer kept under it
-- ARGV     cost (units; 0 looks without writing), then for each limit: algorithm, rate (units per window),
--          window_us (microseconds), capacity (units at once); then what the request id stands for ("" without one);
--          last now_us: "" in production (the server's TIME)
-- Returns  { allowed 0|1, binding limit (1…), its remaining, retry_after_us (-1: never), reset_after_us, now_us };
--          {} where the request id stands for another check
-- Writes   the answer for ANSWER_MS, once admitted and charged; every KEYS[i] when charged, with the time until it means nothing as TTL. Otherwise nothing, but for a
--          state from the future (the clock stepped back): re-stamped to now without refill, so that nobody waits
--          more than one window longer and nobody gains; and but for the TTL of a state that, since its limit was
--          edited, means something for longer than when it was charged.

local HOUR_MS, ANSWER_MS = 3600000, 60000
local cost, meaning, injected = tonumber(ARGV[1]), ARGV[#ARGV - 1], ARGV[#ARGV]
local count = (#ARGV - 3) / 4
local answer = KEYS[count + 1]
if answer then
  local binding, left, reset, at, meant = string.match(redis.call('GET', answer) or '', '^(%d+) (%d+) (%d+) (%d+) (.*)$')
  if meant then
    return meant == meaning and { 1, tonumber(binding), tonumber(left), 0, tonumber(reset), tonumber(at) } or {}
  end
end

local now = tonumber(injected)
if not now then
  local time = redis.call('TIME')
  now = time[1] * 1000000 + time[2]
end

local limits, states, waits, longest = {}, {}, {}, 0
for i = 1, count do
  local key = KEYS[i]
  local arg = 4 * i - 2
  local limit = {
    algorithm = algorithms[ARGV[arg]],
    rate = tonumber(ARGV[arg + 1]),
    window_us = tonumber(ARGV[arg + 2]),
    capacity = tonumber(ARGV[arg + 3]),
  }
  limits[i], states[i] = limit, limit.algorithm.read(key, limit, now)
  waits[i] = cost > limit.capacity and math.huge
    or cost == 0 and 0
    or limit.algorithm.wait(states[i], limit, cost, now)
  longest = math.max(longest, waits[i])
end

local charged = longest == 0 and cost > 0
local binding, least, resets
for i, limit in ipairs(limits) do
  local state = states[i]
  if charged then
    limit.algorithm.charge(state, limit, cost, now)
  end
  local left, reset = limit.algorithm.left(state, limit, now)
  local ttl_ms = math.ceil(reset / 1000) + 1 -- one more: Redis's expiry clock may trail TIME
  if charged or (state.from_future and cost > 0) then
    limit.algorithm.write(KEYS[i], state, now, injected == '' and ttl_ms or math.max(ttl_ms, HOUR_MS))
  elseif cost > 0 and injected == '' and redis.call('PTTL', KEYS[i]) < reset / 1000 and reset > 0 then
    redis.call('PEXPIRE', KEYS[i], ttl_ms)
  end
  local tie = left == least and (waits[i] > waits[binding] or (waits[i] == waits[binding] and reset > resets))
  if not binding or left < least or tie then
    binding, least, resets = i, left, reset
  end
end

if charged and answer then
  local kept = string.format('%d %.0f %.0f %.0f %s', binding, least, resets, now, meaning)
  redis.call('SET', answer, kept, 'PX', ANSWER_MS)
end
return { longest == 0 and 1 or 0, binding, least, longest == math.huge and -1 or longest, resets, now }
