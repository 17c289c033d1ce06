-- Which commands this Redis user may not run on keys of the service. Called alone, on each new connection.
--
-- ARGV[1]  a key of the service; no KEYS: any server of a cluster may be asked
-- ARGV[…]  names of commands
-- Returns  the names of those that it may not run, with a space between them
-- Writes   nothing, and runs none of them

local missing = {}
for i = 2, #ARGV do
  -- Servers that speak for another one may not know how to ask: then what is missing shows when a script calls it.
  if redis.acl_check_cmd and not redis.acl_check_cmd(ARGV[i], ARGV[1]) then
    missing[#missing + 1] = ARGV[i]
  end
end
return table.concat(missing, ' ')
