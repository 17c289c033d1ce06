-- Lists the commands that this Redis user may not run on keys of the service. Called alone, on each new connection.
--
-- ARGV[1]  a key of the service; no KEYS, so that any server of a cluster may be asked
-- ARGV[…]  names of commands
-- Returns  the names of those that the user may not run, separated by spaces
-- Writes   nothing, and runs none of the commands

local missing = {}
for i = 2, #ARGV do
  -- Redis-compatible proxies may lack this function. A missing permission then shows when a script calls the command.
  if redis.acl_check_cmd and not redis.acl_check_cmd(ARGV[i], ARGV[1]) then
    missing[#missing + 1] = ARGV[i]
  end
end
return table.concat(missing, ' ')
