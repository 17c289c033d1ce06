-- Decides the limits of one rule for one client: tests them all, then charges all or none.
-- Prepended when the script is assembled: clock.lua, persist.lua and a step function. The step comes from the
-- algorithm's file, or from multi_limit.lua, which combines several limits into one.
--   step(key, rate, window, capacity, cost, now, charge)  writes nothing
--     -> wait   microseconds until cost fits; 0: it fits now, and is charged if charge is true; never 0 above capacity
--        left   whole units left after that
--        reset  microseconds until the state after that means nothing
--        state and rated, as persist.lua describes them; for several limits the index of the binding one (1…)
--
-- keys     the counters, in the order of the limits; then, with a request id, the key of its stored answer
-- request  struct "<dd": cost (units; 0: a peek, which writes nothing), number of limits; then for each limit "<dddd":
--          rate (units per window), window (microseconds), capacity (units at once), number of its algorithm;
--          then, with a request id, 16 bytes that identify its check, and the terms of the rule
--          A script with one check reads both from KEYS and ARGV[2]. check_batch.lua sets them for each check.
-- ARGV[1]  now (microseconds); empty in production: the server's TIME
-- Returns  struct "<I4I4i8i8i8": binding limit (1…), its remaining, retry after (microseconds; 0: allowed, -1: never),
--          its reset after, now. "" if the request id belongs to another check. A stored answer with other terms is
--          followed by those terms. check_batch.lua also gets the wait, if the check was decided just now.
-- Writes   on a charge: every counter, with the time until it means nothing as TTL, and the answer for a minute.
--          Otherwise nothing, with two exceptions:
--          - a state from the future (the clock stepped back) is re-stamped to now without refill, so that no client
--            waits more than one window longer and none gains;
--          - the TTL of a state that, since its limit was edited, means something for longer than when it was charged.

local cost, count, rate, window, capacity, algorithm = struct.unpack('<dddddd', request)
local answer, meaning = keys[count + 1], nil
if answer then
  meaning = string.sub(request, 17 + 32 * count)
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
