-- Combines several limits into one: tests them all, then charges all or none. `steps` holds the algorithms' functions
-- by number; check.lua describes `keys` and `request`.

-- Tests limit i, then the later ones, then persists it. Results wait on the stack, which costs less than tables.
-- A limit is charged in its test if all earlier ones fit. If a later one denies, it is run again without the charge.
local function settle(i, count, cost, now, charge, longest)
  local rate, window, capacity, algorithm = struct.unpack('<dddd', request, 32 * i - 15)
  local step, key = steps[algorithm], keys[i]
  charge = charge and longest == 0
  local wait, left, reset, state, rated = step(key, rate, window, capacity, cost, now, charge)
  if cost > capacity then
    wait = math.huge
  elseif cost == 0 then
    wait = 0
  end
  longest = math.max(longest, wait)
  local binding, least, resets, held
  if i < count then
    longest, binding, least, resets, held = settle(i + 1, count, cost, now, charge, longest)
    if charge and wait == 0 and longest > 0 then
      wait, left, reset, state, rated = step(key, rate, window, capacity, cost, now, false)
    end
  end
  if cost > 0 then
    keep(key, state, reset, rated)
  end
  if not binding or left < least or (left == least and (wait > held or (wait == held and reset >= resets))) then
    binding, least, resets, held = i, left, reset, wait
  end
  return longest, binding, least, resets, held
end

local function step(key, rate, window, capacity, cost, now, charge, count, algorithm)
  if count == 1 then
    return steps[algorithm](key, rate, window, capacity, cost, now, charge)
  end
  local longest, binding, left, reset = settle(1, count, cost, now, charge, 0)
  return longest, left, reset, nil, nil, binding
end
