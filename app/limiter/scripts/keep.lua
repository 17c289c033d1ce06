-- Keeps the state of a counter for as long as it means something: `reset` microseconds from now.
--   state    a string to store; true: it has been written, and only its TTL is missing; false: it stays as it is
--   rated    true where reset depends on the rate: since that was edited, the state that stays may mean something for
--            longer than when it was charged

local function keep(key, state, reset, rated)
  local ttl_ms = math.ceil(reset / 1000) + 1 -- one more: Redis's expiry clock may trail TIME
  if ARGV[3] then
    ttl_ms = math.max(ttl_ms, 3600000) -- an hour: real expiry must not disturb injected time
  end
  if state == true then
    redis.call('PEXPIRE', key, ttl_ms)
  elseif state then
    redis.call('SET', key, state, 'PX', ttl_ms)
  elseif rated and redis.call('PTTL', key) < reset / 1000 then
    redis.call('PEXPIRE', key, ttl_ms)
  end
end
