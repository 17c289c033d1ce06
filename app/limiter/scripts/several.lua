-- Several limits as if they were one: looks at them all, then settles them all. `looks` and `settles` hold the
-- functions of their algorithms by number. Reads of ARGV[1] what check.lua describes.

local function limit(i)
  return struct.unpack('<dddd', ARGV[1], 32 * i - 23)
end

local function look(_, _, _, _, cost, now)
  local seen, longest = {}, 0
  for i = 1, (#ARGV[1] - 8) / 32 do
    local rate, window, capacity, algorithm = limit(i)
    local found = { looks[algorithm](KEYS[i], rate, window, capacity, cost, now) }
    found[1] = cost > capacity and math.huge or cost == 0 and 0 or found[1]
    seen[i], longest = found, math.max(longest, found[1])
  end
  return longest, seen
end

local function settle(_, _, _, _, cost, now, charged, seen)
  local binding, least, resets, held
  for i, found in ipairs(seen) do
    local rate, window, capacity, algorithm = limit(i)
    local wait, a, b, c = unpack(found, 1, 4)
    local left, reset, state, rated =
      settles[algorithm](KEYS[i], rate, window, capacity, cost, now, charged, a, b, c)
    if cost > 0 then
      keep(KEYS[i], state, reset, rated)
    end
    local tie = left == least and (wait > held or (wait == held and reset > resets))
    if not binding or left < least or tie then
      binding, least, resets, held = i - 1, left, reset, wait
    end
  end
  return least, resets, nil, nil, binding
end
