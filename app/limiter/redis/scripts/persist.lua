-- Keeps the state of a counter for as long as it means something: `reset` microseconds from now.
--   state    a string to store, or a function that stores it; false: the stored state stays
--   rated    true if reset depends on the rate: since an edit of the rate, a state that stays may mean something for
--            longer than when it was stored

local function keep(key, state, reset, rated)
  local ttl_ms = math.ceil(reset / 1000) + 1 -- one more: Redis's expiry clock may trail TIME
  if given then
    ttl_ms = math.max(ttl_ms, 3600000) -- an hour: real expiry must not disturb injected time
  end
  if type(state) == 'string' then
    redis.call('SET', key, state, 'PX', ttl_ms)
  elseif state then
    state()
    redis.call('PEXPIRE', key, ttl_ms)
  elseif rated and redis.call('PTTL', key) < reset / 1000 then
    redis.call('PEXPIRE', key, ttl_ms)
  end
end
