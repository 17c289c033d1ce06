-- A token bucket in a hash.
-- KEYS[1]  the bucket
-- ARGV     capacity, window in seconds (time in which an empty bucket fills), cost, now in seconds
-- Returns  allowed (0 or 1), whole tokens left, milliseconds until the cost is available
local capacity, window, cost, now = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local rate = capacity / window
local bucket = redis.call('HMGET', KEYS[1], 'tokens', 'last_refill')
local tokens, last = tonumber(bucket[1]) or capacity, tonumber(bucket[2]) or now
tokens = math.min(capacity, tokens + math.max(0, now - last) * rate)
local allowed, wait_ms = 0, 0
if tokens >= cost then
  allowed, tokens = 1, tokens - cost
else
  wait_ms = math.ceil((cost - tokens) / rate * 1000)
end
redis.call('HSET', KEYS[1], 'tokens', tokens, 'last_refill', now)
redis.call('EXPIRE', KEYS[1], window)
return {allowed, math.floor(tokens), wait_ms}
