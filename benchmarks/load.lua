-- Requests for wrk, and the check of every answer.
-- Arguments: kind (check, correlated, batch, query), limit_key, number of clients, seed, text required in every answer
-- (empty: answers are not read). Prints one line of JSON after wrk's own report; latencies in microseconds.
local BATCH = 100
local POST = 'POST %s HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\n%sContent-Length: %d\r\n\r\n%s'
local CHECK = '{"client_id":"user_%d","limit_key":"%s"}'
local threads = {}
local host, limit_key, clients
wrong = 0

local function one()
  return string.format(CHECK, math.random(0, clients - 1), limit_key)
end

local function post(path, body, headers)
  return string.format(POST, path, host, headers or '', #body, body)
end

local function uuid()
  local part = function(bits) return math.random(0, 2 ^ bits - 1) end
  return string.format('%08x-%04x-4%03x-a%03x-%06x%06x', part(32), part(16), part(12), part(12), part(24), part(24))
end

local kinds = {
  check = function() return post('/v1/check', one()) end,
  correlated = function() return post('/v1/check', one(), 'X-Correlation-ID: ' .. uuid() .. '\r\n') end,
  batch = function()
    local checks = {}
    for i = 1, BATCH do checks[i] = one() end
    return post('/v1/check/batch', '{"checks":[' .. table.concat(checks, ',') .. ']}')
  end,
  query = function()
    local target = string.format('/v1/check?client_id=user_%d', math.random(0, clients - 1))
    return string.format('GET %s HTTP/1.1\r\nHost: %s\r\n\r\n', target, host)
  end,
}

function setup(thread) threads[#threads + 1] = thread end

function init(args)
  host = wrk.host .. ':' .. wrk.port
  request, limit_key, clients = kinds[args[1]], args[2], tonumber(args[3])
  math.randomseed(tonumber(args[4]))
  local wanted = args[5]
  if wanted == '' then return end
  local unwanted = wanted:find('true', 1, true) and wanted:gsub('true', 'false') or wanted:gsub('false', 'true')
  response = function(_, _, body)
    local has = function(text) return body:find(text, 1, true) end
    if not has(wanted) or has(unwanted) or has('"degraded":true') then wrong = wrong + 1 end
  end
end

function done(summary, latency)
  local errors, sum = summary.errors, 0
  for _, thread in ipairs(threads) do sum = sum + thread:get('wrong') end
  io.write(string.format(
    '{"requests":%d,"seconds":%.6f,"p50_us":%.1f,"p99_us":%.1f,"errors":{"connect":%d,"read":%d,"write":%d,'
      .. '"timeout":%d,"status":%d,"wrong":%d}}\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50), latency:percentile(99),
    errors.connect, errors.read, errors.write, errors.timeout, errors.status, sum))
end
