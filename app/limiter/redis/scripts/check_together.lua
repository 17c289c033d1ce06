-- Decides charges together: tests all of them, then charges all or none. A counter that several charges meet is charged
-- once, by the greatest of their costs.
-- Prepended: clock.lua, persist.lua, the steps of all algorithms, multi_limit.lua and request_ids.lua.
--
-- KEYS     for each charge its counters; with a request id then its two keys, as in request_ids.lua
-- ARGV[1]  now, as in check.lua
-- ARGV[2]  "whole": the decision has no other counters. "part": those of other slots come next. "ask": charge nothing
-- ARGV[…]  what is asked, for each charge, as in check.lua. Without limits, only its request id is here
-- Returns  a list, for each charge: a stored answer or "", as in check.lua; else a list of its result before the charge
--          and, if all were charged, its result after it. The last element is what give_back.lua needs to give back
--          this call; "" if there is nothing.
--          A result is the struct "<I4I4i8i8i8i8": that of check.lua, then the wait of the binding limit alone
--          (microseconds). Without limits, the binding limit is 0.
-- Writes   what check.lua and request_ids.lua write

local mode, admitted, place = ARGV[2], true, 0
local answers, charges, undo = {}, {}, {}
local order, most = {}, {} -- the counters to charge, and for each the greatest cost

local function finite(wait)
  return wait == math.huge and -1 or wait
end

-- Tests this cost for all limits of the charge here. Returns its result, and its numbers as a stored answer has them.
local function test(charge, cost)
  local wait, binding, left, reset, alone = 0, 0, 0, 0, 0
  keys, asked = charge.keys, charge.asked
  if #keys > 0 then
    wait, binding, left, reset, alone = settle(1, #keys, cost, now, false, 0)
  end
  admitted = admitted and wait == 0
  return struct.pack('<I4I4i8i8i8i8', binding, left, finite(wait), reset, now, finite(alone)),
    string.format('%d %d %d %d ', binding, left, reset, now)
end

for i = 1, #ARGV - 2 do
  local charge = { asked = ARGV[i + 2], keys = {} }
  local cost, count = struct.unpack('<dd', charge.asked)
  for j = 1, count do
    charge.keys[j] = KEYS[place + j]
  end
  charge.meaning = string.sub(charge.asked, 17 + 32 * count)
  if charge.meaning ~= '' then
    charge.answer, charge.mark, charge.marked_at = KEYS[place + count + 1], KEYS[place + count + 2], place + count + 2
    answers[i] = known(charge)
    admitted = admitted and answers[i] ~= ''
  end
  if not answers[i] then
    cost = charge.joins and 0 or cost
    charge.results = { (test(charge, cost)) }
    answers[i], charges[#charges + 1] = charge.results, charge
    for j, key in ipairs(cost > 0 and charge.keys or {}) do
      if not most[key] then
        order[#order + 1] = key
      end
      if not most[key] or most[key].cost < cost then
        local limit = string.sub(charge.asked, 32 * j - 15, 32 * j + 16)
        most[key] = { cost = cost, limit = limit, place = place + j }
      end
    end
  end
  place = place + count + (charge.answer and 2 or 0)
end

if admitted and mode ~= 'ask' then
  for i, key in ipairs(order) do
    local rate, window, capacity, algorithm = struct.unpack('<dddd', most[key].limit)
    local _, _, reset, state, rated = steps[algorithm](key, rate, window, capacity, most[key].cost, now, true)
    keep(key, state, reset, rated)
    local held = rated and struct.unpack('<d', redis.call('GET', key)) or 0
    undo[i] = struct.pack('<I4ddddd', most[key].place, most[key].cost, held, rate, window, algorithm)
  end
  for _, charge in ipairs(charges) do
    local result, numbers = test(charge, 0)
    charge.results[2] = result
    if charge.answer and store(charge, mode, numbers) then
      undo[#undo + 1] = struct.pack('<I4', charge.marked_at)
    end
  end
end
answers[#answers + 1] = undo[1] and struct.pack('<dI4', now, #order) .. table.concat(undo) or ''
return answers
