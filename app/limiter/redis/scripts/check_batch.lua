-- Decides checks one after the other, each as if alone. Prepended: the steps of all algorithms, multi_limit.lua, and
-- check.lua as the body of the function `decide`.
-- One difference: Redis tests for out of memory only before a script's first write, so later writes are not refused.
--
-- KEYS     the keys of all checks, in their order
-- ARGV[1]  now (microseconds); empty in production: the server's TIME
-- ARGV[…]  the request of each check
-- Returns  check.lua's result for each check, or the error of that check: concatenated if all are the struct and
--          nothing more, otherwise as a list
-- Writes   what check.lua writes

-- Denials without a request id are repeated instead of decided again. Those by one counter are stored by its key and
-- `request`, until something is charged to that key. Those by several are stored by all keys and `request`, until
-- anything is charged: another check may have only some of those keys.
local denials, joint_denials, joint = {}, {}, false

local given_out, answers, joined = 0, {}, true
for i = 2, #ARGV do
  local count, with_id = 1, false
  request = ARGV[i]
  if #request == 48 then -- the common case: one limit and no request id
    given_out = given_out + 1
    keys[1], keys[2] = KEYS[given_out], nil
  else
    count = select(2, struct.unpack('<dd', request))
    for j = 1, count do
      keys[j] = KEYS[given_out + j]
    end
    given_out = given_out + count
    keys[count + 1] = nil
    with_id = #request > 16 + 32 * count
    if with_id then
      given_out = given_out + 1
      keys[count + 1] = KEYS[given_out]
    end
  end
  local known, answer
  if count == 1 then
    known = denials[keys[1]]
    answer = known and known[request]
  elseif joint then
    answer = joint_denials[table.concat(keys, '', 1, count) .. request]
  end
  if not answer then
    local decided, wait
    decided, answer, wait = pcall(decide)
    if not decided then
      answer = type(answer) == 'table' and answer or { err = answer }
    elseif wait == 0 then
      if known then
        denials[keys[1]] = nil
      elseif count > 1 then
        for j = 1, count do
          if denials[keys[j]] then
            denials[keys[j]] = nil
          end
        end
      end
      if joint then
        joint_denials, joint = {}, false
      end
    elseif wait and not with_id then
      if count > 1 then
        joint_denials[table.concat(keys, '', 1, count) .. request], joint = answer, true
      else
        denials[keys[1]] = known or {}
        denials[keys[1]][request] = answer
      end
    end
  end
  joined = joined and #answer == 32
  answers[i - 1] = answer
end
return joined and table.concat(answers) or answers
