-- Decides checks one after the other, each as if alone. In front of it are the steps of all algorithms, multi_limit.lua and
-- check.lua as the body of a function, decide.
-- But Redis asks whether it is out of memory before the first write of a script only: what comes after one is not refused.
--
-- KEYS     the keys of all checks, in their order
-- ARGV[1]  now (microseconds); empty in production: the server's TIME
-- ARGV[…]  what is asked, of each check
-- Returns  what check.lua returns of each check, or the error that it met: joined where all are that struct and no more,
--          as a list otherwise
-- Writes   what check.lua writes

-- Denials by the first key and by what was asked, without a request id: told again, not decided again, until something is
-- charged to that key.
local denials = {}

local given_out, answers, joined = 0, {}, true
for i = 2, #ARGV do
  local with_id = false
  asked = ARGV[i]
  if #asked == 48 then -- one limit and no request id, as most
    given_out = given_out + 1
    keys[1], keys[2] = KEYS[given_out], nil
  else
    local _, count = struct.unpack('<dd', asked)
    for j = 1, count do
      keys[j] = KEYS[given_out + j]
    end
    given_out = given_out + count
    keys[count + 1] = nil
    with_id = #asked > 16 + 32 * count
    if with_id then
      given_out = given_out + 1
      keys[count + 1] = KEYS[given_out]
    end
  end
  local known = denials[keys[1]]
  local answer = known and known[asked]
  if not answer then
    local decided, wait
    decided, answer, wait = pcall(decide)
    if not decided then
      answer = type(answer) == 'table' and answer or { err = answer }
    elseif wait == 0 then
      if known then
        denials[keys[1]] = nil
      end
    elseif wait and not with_id then
      denials[keys[1]] = known or {}
      denials[keys[1]][asked] = answer
    end
  end
  joined = joined and #answer == 32
  answers[i - 1] = answer
end
return joined and table.concat(answers) or answers
