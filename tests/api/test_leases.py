"""POST /v1/leases and /v1/leases/{id}/return through a real node."""

from __future__ import annotations

import time
from typing import Any

from tests.api.conftest import PutRules
from tests.support.node import Node

DECISION = {"allowed", "remaining", "retry_after_ms", "limit", "window", "reset_at", "algorithm", "rule_id", "reason"}
ANSWER = DECISION | {"degraded", "lease_id", "granted", "expires_at"}


def lease(node: Node, client_id: str, permits: int = 1, **fields: Any) -> dict[str, Any]:
    """What is answered to a caller without a key."""
    body = {"client_id": client_id, "permits": permits} | fields
    answer = node.request("POST", "/v1/leases", key=None, json=body)
    assert answer.status_code == 200, answer.text
    granted: dict[str, Any] = answer.json()
    assert granted.keys() == ANSWER
    return granted


def give_back(node: Node, lease_id: str, unused: int, key: str | None = None) -> Any:
    return node.request("POST", f"/v1/leases/{lease_id}/return", key=key, json={"unused": unused})


def test_permits_are_granted_charged_and_given_back(node: Node, put_rules: PutRules, client: str) -> None:
    [rule] = put_rules({"client_id": client, "rate": 10, "window": 3600, "algorithm": "fixed_window"})
    before = time.time()
    granted = lease(node, client, 7, ttl_ms=5000)
    assert (granted["granted"], granted["allowed"], granted["remaining"]) == (7, True, 3)
    assert (granted["rule_id"], granted["reason"], granted["degraded"]) == (rule["id"], "within_limit", False)
    assert before + 4 < granted["expires_at"] < time.time() + 6
    assert lease(node, client, 7)["granted"] == 3
    nothing = lease(node, client, 7)
    assert (nothing["granted"], nothing["allowed"], nothing["reason"]) == (0, False, "over_limit")
    assert (nothing["lease_id"], nothing["expires_at"]) == (None, None)
    assert 0 < nothing["retry_after_ms"] <= 3_600_000
    for _ in range(2):
        returned = give_back(node, granted["lease_id"], 4)
        assert (returned.status_code, returned.json()) == (200, {"lease_id": granted["lease_id"], "returned": 4})
        assert node.check(client, cost=0)["remaining"] == 4
