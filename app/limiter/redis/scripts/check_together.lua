-- Decides charges together: tests all of them, then charges all or none. A counter that several charges meet is charged
-- once, by the greatest of their costs.
-- Prepended: clock.lua, persist.lua, the steps of all algorithms, multi_limit.lua and request_ids.lua.
--
-- KEYS     for each charge its counters; with a request id then its two keys, as in request_ids.lua
-- ARGV[1]  now, as in check.lua
-- ARGV[2]  "whole": the decision has no other counters. "part": those of other slots come next. "ask": charge nothing
-- ARGV[…]  the request of each charge, as in check.lua. Without limits, only its request id is here
-- Returns  a list, for each charge: a stored answer or "", as in check.lua; else a list of its result before the charge
--          and, if all were charged, its result after it. The last element is what give_back.lua needs to give back
--          this call; "" if there is nothing.
--          A result is the struct "<I4I4i8i8i8i8": that of check.lua, then the wait of the binding limit alone
--          (microseconds). Without limits, the binding limit is 0.
-- Writes   what check.lua and request_ids.lua write

local mode, admitted, place = ARGV[2], true, 0
local answers, charges, undo, order, most = {}, {}, {}, {}, {} -- `most`: by counter, the greatest cost; in `order`

local function pack(binding, left, wait, reset, alone)
  wait, alone = wait == math.huge and -1 or wait, alone == math.huge and -1 or alone
  return struct.pack('<I4I4i8i8i8i8', binding, left, wait, reset, now, alone)
end

-- Tests this cost for all limits of the charge here; returns its result.
local function test(charge, cost)
  local wait, binding, left, reset, alone = 0, 0, 0, 0, 0
  keys, request = charge.keys, charge.request
  if #keys > 0 then
    wait, binding, left, reset, alone = settle(1, #keys, cost, now, false, 0)
  end
  admitted = admitted and wait == 0
  charge.binding, charge.left, charge.reset = binding, left, reset
  return pack(binding, left, wait, reset, alone)
end

-- Returns the result of an admitted charge, now that all counters are charged.
local function result_after(charge)
  if charge.cost == 0 then -- its counters need not be charged
    return test(charge, 0)
  end
  for j, key in ipairs(charge.keys) do
    local left, reset = most[key].left, most[key].reset
    if j == 1 or left < charge.left or left == charge.left and reset > charge.reset then
      charge.binding, charge.left, charge.reset = j, left, reset
    end
  end
  return pack(charge.binding, charge.left, 0, charge.reset, 0)
end

for i = 1, #ARGV - 2 do
  local charge = { request = ARGV[i + 2], keys = {} }
  local cost, count = struct.unpack('<dd', charge.request)
  for j = 1, count do
    charge.keys[j] = KEYS[place + j]
  end
  charge.meaning = string.sub(charge.request, 17 + 32 * count)
  if charge.meaning ~= '' then
    charge.answer, charge.mark, charge.marked_at = KEYS[place + count + 1], KEYS[place + count + 2], place + count + 2
    answers[i] = known(charge)
    admitted = admitted and answers[i] ~= ''
  end
  if not answers[i] then
    charge.cost = charge.joins and 0 or cost
    charge.results = { test(charge, charge.cost) }
    answers[i], charges[#charges + 1] = charge.results, charge
    for j = 1, charge.cost > 0 and count or 0 do
      local key = charge.keys[j]
      if not most[key] then
        order[#order + 1] = key
      end
      if not most[key] or most[key].cost < cost then
        most[key] = { cost = cost, request = charge.request, j = j, place = place + j }
      end
    end
  end
  place = place + count + (charge.answer and 2 or 0)
end

if admitted and mode ~= 'ask' then
  for i, key in ipairs(order) do
    local top = most[key]
    local rate, window, capacity, algorithm = struct.unpack('<dddd', top.request, 32 * top.j - 15)
    local _, left, reset, state, rated = steps[algorithm](key, rate, window, capacity, top.cost, now, true)
    keep(key, state, reset, rated)
    top.left, top.reset = left, reset
    local held = rated and struct.unpack('<d', state) or 0
    undo[i] = struct.pack('<I4ddddd', top.place, top.cost, held, rate, window, algorithm)
  end
  for _, charge in ipairs(charges) do
    charge.results[2] = result_after(charge)
    if charge.answer and store(charge, mode) then
      undo[#undo + 1] = struct.pack('<I4', charge.marked_at)
    end
  end
end
answers[#answers + 1] = undo[1] and struct.pack('<dI4', now, #order) .. table.concat(undo) or ''
return answers
