-- Request ids of charges whose counters may lie in several slots.
--   charge.answer   key of the stored answer, as in check.lua
--   charge.mark     key that marks the id as unfinished: charged in this slot, not yet in the others. String: 16 bytes
--                   that identify its check, and one more once another call has joined, which now relies on the charge
--   charge.meaning  as in `request` of check.lua: those 16 bytes, then the terms of the rule
--   charge.binding, charge.left, charge.reset  its numbers after the charge, as in check.lua

local meanings = {} -- of this call, by answer key

-- Returns the stored answer as check.lua does, "" if the id belongs to another check, nil if it is to be decided.
-- Sets charge.joins if it is unfinished: it is charged already.
local function known(charge)
  local id, kept = string.sub(charge.meaning, 1, 16), redis.call('GET', charge.answer)
  local binding, left, reset, at, meant = string.match(kept or '', '^(%d+) (%d+) (%d+) (%d+) (.*)$')
  charge.joins = not kept and redis.call('GET', charge.mark)
  meanings[charge.answer] = string.sub(meant or charge.joins or meanings[charge.answer] or id, 1, 16)
  if meanings[charge.answer] ~= id then
    return ''
  elseif kept then
    local terms = meant ~= charge.meaning and string.sub(meant, 17) or ''
    return struct.pack('<I4I4i8i8i8', binding, left, 0, reset, at) .. terms
  end
end

-- Stores the id of an admitted charge for a minute: its answer, or as a part its mark. True if the mark is new.
local function store(charge, mode)
  if mode == 'whole' then
    local answer = string.format('%d %d %d %d ', charge.binding, charge.left, charge.reset, now)
    redis.call('SET', charge.answer, answer .. charge.meaning, 'PX', 60000)
    redis.call('UNLINK', charge.mark)
  elseif charge.joins then
    redis.call('SET', charge.mark, string.sub(charge.meaning, 1, 16) .. '+', 'KEEPTTL')
  else
    redis.call('SET', charge.mark, string.sub(charge.meaning, 1, 16), 'PX', 60000)
    return true
  end
end
