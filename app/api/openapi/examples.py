"""The request examples of /docs, by operation. A service that has just been started accepts each of them."""

from __future__ import annotations

from typing import Any

CHECK_EXAMPLE = {"client_id": "user_123", "limit_key": "login"}
RULE_EXAMPLE = {
    "client_id": "premium_*",
    "endpoint": "search",
    "rate": 100,
    "window": 60,
    "description": "premium, per minute",
}
# No example has a request_id: a repeated request would get the same answer, as if nothing were counted.
REQUESTS: dict[str, Any] = {
    "check": CHECK_EXAMPLE,
    "checkBatch": {"checks": [CHECK_EXAMPLE, {"client_id": "user_456", "limit_key": "login", "cost": 0}]},
    "createLease": CHECK_EXAMPLE | {"permits": 5, "ttl_ms": 10_000},
    "returnLease": {"unused": 2},
    "putRule": RULE_EXAMPLE,
    "replaceRule": RULE_EXAMPLE | {"rate": 200},
    "patchRule": {"rate": 200},
    "rollBackRule": {"version": 1},
    "blockClient": {"client_id": "user_666"},
    "unblockClient": {"client_id": "user_666"},
    "importRules": {"rules": [RULE_EXAMPLE, {"client_id": "user_666", "action": "block"}]},
    "putTemplate": {"name": "search-pro", "endpoint": "search", "rate": 600, "window": 60},
    "applyTemplate": {"client_id": "user_123"},
    "resetCounters": CHECK_EXAMPLE,
    "createTenant": {"name": "shop"},
    "createKey": {"name": "checkout", "scopes": ["check"]},
    "rotateKey": {"overlap_seconds": 3600},
}
DECISION = {
    "allowed": True,
    "remaining": 19,
    "retry_after_ms": 0,
    "limit": 20,
    "window": 60,
    "reset_at": 1795472250.497229,
    "algorithm": "token_bucket",
    "rule_id": 2,
    "reason": "within_limit",
    "degraded": False,
}
