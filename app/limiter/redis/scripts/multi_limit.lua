-- Several limits as if they were one: asks them all, then charges them all or none. `steps` holds the functions of their
-- algorithms by number; check.lua says what `keys` and `asked` are.

-- Asks limit i, then those after it, then keeps it: what it found waits on the stack, which costs less than tables.
-- The last one is charged as it is asked if all before it fit; then the others are asked again, to be charged.
local function settle(i, count, cost, now, charge, longest)
  local rate, window, capacity, algorithm = struct.unpack('<dddd', asked, 32 * i - 15)
  local step, key = steps[algorithm], keys[i]
  local at_once = charge and longest == 0 and i == count
  local wait, left, reset, state, rated = step(key, rate, window, capacity, cost, now, at_once)
  if cost > capacity then
    wait = math.huge
  elseif cost == 0 then
    wait = 0
  end
  longest = math.max(longest, wait)
  local binding, least, resets, held
  if i < count then
    longest, binding, least, resets, held = settle(i + 1, count, cost, now, charge, longest)
    if charge and longest == 0 then
      wait, left, reset, state, rated = step(key, rate, window, capacity, cost, now, true)
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
