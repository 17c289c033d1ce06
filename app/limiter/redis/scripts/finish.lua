-- Stores the answer of a charge that is finished in all slots, under its request id.
--
-- KEYS[1]  the key of the stored answer; KEYS[2] the mark, both as in request_ids.lua
-- ARGV[1]  the answer, as check.lua stores it
-- Writes   the answer for a minute, and removes the mark

redis.call('SET', KEYS[1], ARGV[1], 'PX', 60000)
return redis.call('UNLINK', KEYS[2])
