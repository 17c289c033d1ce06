"""The kinds of problems that a program may want to tell apart, as the `type` of problem documents. RFC 9457."""

from __future__ import annotations

ABOUT_BLANK = "about:blank"
PROBLEMS_PAGE = "/docs/problems"
# The meaning of each, with its status. Problems that HTTP's title explains (405, 408, 411, 413, 415, 500, an unknown
# path) have no kind.
KINDS = {
    "malformed-body": "400: the body is not JSON or YAML, not UTF-8, or ended early",
    "unwanted-body": "400: the request has a body, but takes none",
    "no-client": "400: the request names no client (forward authentication)",
    "key-missing": "401: an API key is required",
    "key-unknown": "401: the API key is not known, was revoked or has expired",
    "two-keys": "401: two different API keys were sent",
    "scope-missing": "403: the API key lacks a scope, which `detail` names",
    "key-of-another-tenant": "403: the API key belongs to another tenant than AUTHORIZE_TENANT",
    "key-bound": "403: a key would expire later, or have more scopes, than the key that makes or rotates it",
    "untrusted-proxy": "403: a header that names the client or a group comes from outside TRUSTED_PROXIES",
    "not-found": "404: it does not exist, or belongs to another tenant",
    "request-id-conflict": "409: the request_id was used for a check with another limit_key, cost or groups",
    "rule-exists": "409: another rule has this layer, client or group, and endpoint already",
    "name-taken": "409: the name is taken",
    "built-in": "409: a built-in template, or the default tenant, cannot be changed or deleted",
    "not-on-trial": "409: the rule is not a shadow rule, so it cannot be promoted",
    "too-many": "409: the tenant, or the service, has reached its number of these",
    "file-too-large": "409: the exported file would be larger than an import may be",
    "conflict": "409: another change prevents this one, such as the deletion of the tenant",
    "stale": "412: If-Match or If-None-Match does not hold: it was changed, or exists already",
    "invalid-request": "422: `errors` says what is wrong with which field",
    "denied": "429: the limit is reached; the members of the decision are beside `detail`",
    "cannot-decide": "503: Redis cannot decide, and the fail mode is closed or a lease was requested",
    "redis-unavailable": "503: Redis does not answer, so counters cannot be read or reset",
    "database-unavailable": "503: PostgreSQL does not answer; checks are not affected",
    "no-rules": "503: this node has not read any rules yet",
    "no-tenant": "503: no tenant has the name in AUTHORIZE_TENANT",
    "draining": "503: the node is about to stop",
    "too-many-connections": "503: the address has reached its number of connections to this worker",
    "busy": "503: another change or large file is being processed, or too many files wait for their readers",
}


def type_of(kind: str | None) -> str:
    """The URI reference of a kind; `about:blank` for None."""
    return f"{PROBLEMS_PAGE}#{kind}" if kind else ABOUT_BLANK


def page() -> str:
    """All kinds as a page, each under its fragment."""
    rows = "".join(f'<dt id="{kind}">{kind}</dt><dd>{meaning}</dd>\n' for kind, meaning in KINDS.items())
    return f'<!doctype html>\n<html lang="en">\n<title>Kinds of problems</title>\n<dl>\n{rows}</dl>\n</html>\n'
