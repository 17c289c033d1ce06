-- Decides the limits of one rule for one client: asks them all, then charges them all or none.
-- Put in front of it when the script is loaded: clock.lua, persist.lua, and a function that knows the limit: that of the
-- file of its algorithm, or that of multi_limit.lua, which knows several as one.
--   step(key, rate, window, capacity, cost, now, charge)  writes nothing
--     -> wait   microseconds until cost fits; 0: it fits now, and is charged if charge is true; never 0 above capacity
--        left   whole units left after that
--        reset  microseconds until the state after that means nothing
--        what persist.lua calls state and rated; of several limits the binding one (1…)
--
-- keys     the counters, in the order of the limits; after them, where a request id was given, the answer kept under it
-- asked    struct "<dd": cost (units; 0 looks without writing), number of limits; then of each limit "<dddd": rate (units
--          per window), window (microseconds), capacity (units at once), number of its algorithm; then, where a request
--          id was given, what that stands for, 16 bytes, and the terms of the rule
--          A script of its own reads them from KEYS and ARGV[2]; check_batch.lua, which decides many, from what it is given
-- ARGV[1]  now (microseconds); empty in production: the server's TIME
-- Returns  struct "<I4I4i8i8i8": binding limit (1…), its remaining, retry after (microseconds; 0: allowed, -1: never),
--          its reset after, now; "" where the request id stands for another check; with the terms behind it where they
--          were others when that was charged. To check_batch.lua also the wait, where it was decided just now
-- Writes   when charged every counter, with the time until it means nothing as TTL, and the answer for a minute.
--          Otherwise nothing, but for
--          - a state from the future (the clock stepped back): re-stamped to now without refill, so that nobody waits
--            more than one window longer and nobody gains;
--          - the TTL of a state that, since its limit was edited, means something for longer than when it was charged.

local cost, count, rate, window, capacity, algorithm = struct.unpack('<dddddd', asked)
local answer, meaning = keys[count + 1], nil
if answer then
  meaning = string.sub(asked, 17 + 32 * count)
  local kept = redis.call('GET', answer)
  if kept then
    local binding, left, reset, at, meant = string.match(kept, '^(%d+) (%d+) (%d+) (%d+) (.*)$')
    if string.sub(meant, 1, 16) ~= string.sub(meaning, 1, 16) then
      return ''
    end
    local terms = meant ~= meaning and string.sub(meant, 17) or ''
    return struct.pack('<I4I4i8i8i8', binding, left, 0, reset, at) .. terms
  end
end

local charge = cost > 0 and cost <= capacity
local wait, left, reset, state, rated, binding =
  step(keys[1], rate, window, capacity, cost, now, charge, count, algorithm)
if not charge then
  wait = cost > 0 and math.huge or 0
end
if cost > 0 then
  keep(keys[1], state, reset, rated)
end

binding = binding or 1
if answer and charge and wait == 0 then
  redis.call('SET', answer, string.format('%d %d %d %d ', binding, left, reset, now) .. meaning, 'PX', 60000)
end
return struct.pack('<I4I4i8i8i8', binding, left, wait == math.huge and -1 or wait, reset, now), wait
