"""The kinds of problems that a program may want to tell apart, as the `type` of problem documents. RFC 9457."""

from __future__ import annotations

BLANK = "about:blank"
PAGE = "/docs/problems"
# The meaning of each, with its status. What HTTP's title says already (405, 408, 411, 413, 415, 500, a path that is
# none) has no kind.
KINDS = {
    "malformed-body": "400: the body is not JSON or YAML, not UTF-8, or ended early",
    "unwanted-body": "400: a body where none is taken",
    "no-client": "400: forward authentication finds no client in the request",
    "key-missing": "401: an API key is required",
    "key-unknown": "401: the API key is not known, was revoked or has expired",
    "two-keys": "401: two different API keys were sent",
    "scope-missing": "403: the API key lacks a scope, which `detail` names",
    "key-of-another-tenant": "403: the API key belongs to another tenant than AUTHORIZE_TENANT",
    "key-bound": "403: a key can neither outlive nor outrank the key that makes or rotates it",
    "untrusted-proxy": "403: X-Forwarded-For comes from an address that is not among TRUSTED_PROXIES",
    "not-found": "404: there is no such thing, or it is another tenant's",
    "request-id-conflict": "409: the request_id was used for a check with another limit_key or cost",
    "rule-exists": "409: another rule has this client and endpoint already",
    "name-taken": "409: there is one of this name already",
    "built-in": "409: what is built in cannot be changed or deleted",
    "not-on-trial": "409: the rule is no shadow that could be promoted",
    "too-many": "409: a tenant, or the service, has as many of these as it may have",
    "file-too-large": "409: the rules have more bytes as a file than an import takes",
    "conflict": "409: something else stands in the way, such as the end of the tenant",
    "stale": "412: the thing is not as If-Match or If-None-Match says",
    "invalid-request": "422: `errors` says what is wrong with which field",
    "denied": "429: the limit is reached; the members of the decision stand beside",
    "cannot-decide": "503: Redis cannot decide, and the fail mode is closed, or a lease was asked for",
    "redis-unavailable": "503: Redis does not answer what is asked about counters",
    "database-unavailable": "503: PostgreSQL does not answer; checks are not affected",
    "no-rules": "503: no rules are known yet",
    "no-tenant": "503: there is no tenant of the name in AUTHORIZE_TENANT",
    "draining": "503: the node is about to stop",
    "too-many-connections": "503: the address has as many connections to this worker as it may have",
    "busy": "503: another change or large file is under way, or too many files wait for their readers",
}


def type_of(kind: str | None) -> str:
    """The URI reference; `about:blank` of no kind."""
    return f"{PAGE}#{kind}" if kind else BLANK


def page() -> str:
    """All kinds for people, each under its fragment."""
    rows = "".join(f'<dt id="{kind}">{kind}</dt><dd>{meaning}</dd>\n' for kind, meaning in KINDS.items())
    return f'<!doctype html>\n<html lang="en">\n<title>Kinds of problems</title>\n<dl>\n{rows}</dl>\n</html>\n'
