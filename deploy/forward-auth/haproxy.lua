-- Asks the limiter about a request: lets it pass, or answers it. haproxy.cfg shows where it is called.
local QUESTION = "http://limiter:8000/v1/authorize?limit_key=global"
local WAIT_MS = 1000
-- Pages of this origin may read a denial.
local ORIGIN = "https://app.example"
local SHOWN = {"content-type", "ratelimit", "ratelimit-policy", "retry-after", "x-correlation-id"}

local function answer(txn, status, headers, body)
    local reply = txn:reply{status = status, body = body}
    for name, value in pairs(headers) do
        reply:add_header(name, value)
    end
    reply:add_header("access-control-allow-origin", ORIGIN)
    reply:add_header("access-control-expose-headers", "RateLimit, RateLimit-Policy, Retry-After")
    txn:done(reply)
end

core.register_action("ask_limiter", {"http-req"}, function(txn)
    -- Only the client headers named here are passed on.
    local headers = {["x-forwarded-for"] = {txn.f:src()}}
    local correlation_id = txn.sf:req_hdr("x-correlation-id")
    if correlation_id ~= "" then
        headers["x-correlation-id"] = {correlation_id}
    end
    local said = core.httpclient():get{url = QUESTION, headers = headers, timeout = WAIT_MS}
    local shown = {}
    for _, name in ipairs(SHOWN) do
        shown[name] = said.headers and said.headers[name] and said.headers[name][0]
    end
    if said.status == 200 then
        txn:set_var("txn.limit_now", shown["ratelimit"] or "")
        txn:set_var("txn.limit_policy", shown["ratelimit-policy"] or "")
    elseif said.status == 429 then
        answer(txn, 429, shown, said.body)
    else -- refused, or no answer: the request does not pass
        local problem = '{"type":"about:blank","title":"Service Unavailable","status":503}'
        answer(txn, 503, {["content-type"] = "application/problem+json"}, problem)
    end
end, 0)
