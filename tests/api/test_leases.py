"""POST /v1/leases and /v1/leases/{lease_id}/return through a real node."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
import requests

from tests.api.conftest import MakeKey, OtherTenant, PutRules
from tests.api.raw_http import CLOSE, exchange, problem_of, request
from tests.support.node import Node

SETTINGS = {"FAST_LANE": "false", "MAX_NEW_CLIENTS_PER_MINUTE": 2, "RATELIMIT_HEADERS": "legacy"}  # of own_node

DECISION = {"allowed", "remaining", "retry_after_ms", "limit", "window", "reset_at", "algorithm", "rule_id", "reason"}
ANSWER = DECISION | {"degraded", "lease_id", "granted", "expires_at"}
HOUR = {"window": 3600, "algorithm": "fixed_window"}


def acquire(node: Node, client_id: str, permits: int = 1, key: str | None = None, **fields: Any) -> requests.Response:
    body = {"client_id": client_id, "permits": permits} | fields
    answer = node.request("POST", "/v1/leases", key=key, json=body)
    assert answer.status_code == 200, answer.text
    assert answer.json().keys() == ANSWER
    return answer


def lease(node: Node, client_id: str, permits: int = 1, **fields: Any) -> dict[str, Any]:
    granted: dict[str, Any] = acquire(node, client_id, permits, **fields).json()
    return granted


def give_back(node: Node, lease_id: str, unused: int, key: str | None = None) -> requests.Response:
    return node.request("POST", f"/v1/leases/{lease_id}/return", key=key, json={"unused": unused})


def left(node: Node, client_id: str) -> int:
    remaining: int = node.check(client_id, cost=0)["remaining"]
    return remaining


@pytest.mark.parametrize("of", ["node", "own_node"])
def test_permits_are_granted_charged_and_given_back(of: str, request: pytest.FixtureRequest, client: str) -> None:
    node: Node = request.getfixturevalue(of)
    rule, before = node.put_rule(client_id=client, rate=10, **HOUR), time.time()
    granted = lease(node, client, 7, ttl_ms=5000)
    assert (granted["granted"], granted["allowed"], granted["remaining"]) == (7, True, 3)
    assert (granted["rule_id"], granted["reason"], granted["degraded"]) == (rule["id"], "within_limit", False)
    assert before + 4 < granted["expires_at"] < time.time() + 6
    assert lease(node, client, 7)["granted"] == 3
    nothing = lease(node, client, 7)
    assert (nothing["granted"], nothing["allowed"], nothing["reason"]) == (0, False, "over_limit")
    assert (nothing["lease_id"], nothing["expires_at"]) == (None, None)
    assert 0 < nothing["retry_after_ms"] <= 3_600_000
    for unused in (4, 7):  # the second time it is only asked what was answered
        returned = give_back(node, granted["lease_id"], unused)
        assert (returned.status_code, returned.json()) == (200, {"lease_id": granted["lease_id"], "returned": 4})
        assert left(node, client) == 4


def test_all_limits_of_the_rule_are_charged(node: Node, put_rules: PutRules, client: str) -> None:
    limits = [{"rate": 10, "window": 3600}, {"rate": 6, "window": 7200, "algorithm": "sliding_window"}]
    put_rules({"client_id": client, "limits": limits})
    granted = lease(node, client, 8)
    assert (granted["granted"], granted["limit"]) == (6, 6)
    shown = node.request("GET", f"/v1/admin/counters?client_id={client}").json()
    assert [reading["remaining"] for reading in shown[:2]] == [4, 0]
    assert give_back(node, granted["lease_id"], 6).json()["returned"] == 6
    shown = node.request("GET", f"/v1/admin/counters?client_id={client}").json()
    assert [reading["remaining"] for reading in shown[:2]] == [10, 6]


def test_the_built_in_default_leases_too(node: Node, client: str) -> None:
    granted = lease(node, client, 30)
    assert (granted["granted"], granted["rule_id"]) == (30, "default")
    assert give_back(node, granted["lease_id"], 30).json()["returned"] == 30
    assert left(node, client) == 100


def test_a_grant_has_the_headers_of_a_check(node: Node, own_node: Node, put_rules: PutRules, client: str) -> None:
    [rule] = put_rules({"client_id": client, "rate": 2, **HOUR})
    headers = {"X-Correlation-ID": "mine"}
    granted = node.request("POST", "/v1/leases", json={"client_id": client, "permits": 2}, headers=headers)
    assert granted.headers["X-Correlation-ID"] == "mine"
    assert granted.headers["Content-Type"] == "application/json"
    assert granted.headers["RateLimit-Policy"] == f'"{rule["id"]}";q=2;w=3600'
    assert granted.headers["RateLimit"].startswith(f'"{rule["id"]}";r=0;t=')
    assert "Retry-After" not in granted.headers
    assert 0 < int(acquire(node, client).headers["Retry-After"]) <= 3600
    own_node.put_rule(client_id=client, rate=5, **HOUR)
    assert acquire(own_node, client, 2).headers["X-RateLimit-Remaining"] == "3"


def test_what_allows_grants_all_and_counts_nothing(node: Node, put_rules: PutRules, client: str) -> None:
    put_rules({"client_id": client, "action": "allow"})
    granted = lease(node, client, 10**9)
    assert (granted["granted"], granted["reason"]) == (10**9, "allowed_by_rule")
    assert give_back(node, granted["lease_id"], 5).json()["returned"] == 0


def test_what_blocks_grants_nothing(node: Node, put_rules: PutRules, client: str) -> None:
    put_rules({"client_id": client, "action": "block"})
    refused = acquire(node, client, 5)
    assert (refused.json()["granted"], refused.json()["reason"]) == (0, "blocked_by_rule")
    assert (refused.json()["lease_id"], refused.json()["retry_after_ms"]) == (None, None)
    assert "Retry-After" not in refused.headers


def test_a_shadow_rule_is_charged_beside_and_says_what_it_would_deny(
    node: Node, put_rules: PutRules, client: str
) -> None:
    put_rules({"client_id": client, "rate": 10, **HOUR}, {"client_id": f"{client}*", "rate": 5, **HOUR, "shadow": True})
    before = node.metric("ratelimiter_shadow_blocked_total")
    assert [lease(node, client, 4)["reason"] for _ in range(3)] == ["within_limit", "shadow", "shadow"]
    assert node.metric("ratelimiter_shadow_blocked_total") == before + 2
    assert lease(node, client, 4)["reason"] == "over_limit"


def test_nobody_else_can_return_a_lease(node: Node, other_tenant: OtherTenant, client: str) -> None:
    lease_id = lease(node, client, 5)["lease_id"]
    rule_id, holder, nonce = lease_id.split(".")
    forged = [f"{rule_id}.{holder}.{'A' * 16}", f"{rule_id}.{'A' * 16}.{nonce}", f"999999.{holder}.{nonce}"]
    malformed = ["x", "...", f"{lease_id}.", f"-1.{holder}.{nonce}", f"0{lease_id}", "%F0%9F%98%80", "9" * 3000]
    for unknown in forged + malformed:
        problem_of(give_back(node, unknown, 5), 404)
    problem_of(give_back(node, lease_id, 5, key=other_tenant.key), 404)
    assert left(node, client) == 95
    assert give_back(node, lease_id, 5).json()["returned"] == 5


def test_a_lease_of_another_tenants_rule_is_not_found(
    node: Node, other_tenant: OtherTenant, put_rules: PutRules, client: str
) -> None:
    put_rules({"client_id": client, "action": "allow"})
    lease_id = lease(node, client, 5)["lease_id"]
    problem_of(give_back(node, lease_id, 5, key=other_tenant.key), 404)


def test_an_expired_lease_counts_as_used(node: Node, client: str) -> None:
    lease_id = lease(node, client, 5, ttl_ms=1)["lease_id"]
    assert node.eventually(lambda: give_back(node, lease_id, 0).status_code == 404)
    problem = problem_of(give_back(node, lease_id, 5), 404)
    assert "count as used" in problem["detail"]


def test_an_edit_of_the_rate_keeps_a_lease_and_a_new_counter_does_not(
    node: Node, put_rules: PutRules, client: str
) -> None:
    put_rules({"client_id": client, "rate": 10, **HOUR})
    one, other = (lease(node, client, 2)["lease_id"] for _ in range(2))
    put_rules({"client_id": client, "rate": 20, **HOUR})
    assert give_back(node, one, 2).json()["returned"] == 2
    assert left(node, client) == 18
    put_rules({"client_id": client, "rate": 20, **HOUR, "window": 7200})
    problem_of(give_back(node, other, 2), 404)


def test_new_clients_lease_from_their_shared_counter(own_node: Node) -> None:
    own_node.put_rule(client_id="flood *", rate=20, window=3600)
    granted = [lease(own_node, f"flood {number}", 3) for number in range(12)]
    assert min(answer["granted"] for answer in granted) == 0  # the first of each minute are on their own
    returned = [give_back(own_node, answer["lease_id"], 3) for answer in granted if answer["granted"] == 3]
    assert {answer.status_code for answer in returned} == {200}


BAD: dict[str, tuple[Any, str]] = {
    "no permits": ({"client_id": "x"}, "permits"),
    "none wanted": ({"client_id": "x", "permits": 0}, "permits"),
    "too many": ({"client_id": "x", "permits": 10**9 + 1}, "permits"),
    "permits as text": ({"client_id": "x", "permits": "1"}, "permits"),
    "permits as a fraction": ({"client_id": "x", "permits": 1.0}, "permits"),
    "permits as a truth": ({"client_id": "x", "permits": True}, "permits"),
    "no time": ({"client_id": "x", "permits": 1, "ttl_ms": 0}, "ttl_ms"),
    "more than an hour": ({"client_id": "x", "permits": 1, "ttl_ms": 3_600_001}, "ttl_ms"),
    "no client": ({"permits": 1}, "client_id"),
    "a control character": ({"client_id": "a\n", "permits": 1}, "client_id"),
    "an empty limit_key": ({"client_id": "x", "permits": 1, "limit_key": ""}, "limit_key"),
    "a field of a check": ({"client_id": "x", "permits": 1, "cost": 1}, "cost"),
    "a list": ([], "_schema"),
}


@pytest.mark.parametrize(("body", "field"), BAD.values(), ids=BAD.keys())
def test_what_is_no_lease_is_refused(node: Node, body: Any, field: str) -> None:
    assert field in problem_of(node.request("POST", "/v1/leases", key=None, json=body), 422)["errors"]


@pytest.mark.parametrize("unused", [-1, 10**9 + 1, "1", 1.0, None, True])
def test_what_is_no_return_is_refused_and_credits_nothing(node: Node, client: str, unused: Any) -> None:
    lease_id = lease(node, client, 5)["lease_id"]
    assert "unused" in problem_of(give_back(node, lease_id, unused), 422)["errors"]
    assert left(node, client) == 95


@pytest.mark.parametrize("path", ["/v1/leases", "/v1/leases/x/return"])
def test_bodies_are_read_as_strictly_as_those_of_checks(node: Node, path: str) -> None:
    def post(raw: str, media_type: str = "application/json") -> requests.Response:
        return node.request("POST", path, key=None, data=raw, headers={"Content-Type": media_type})

    problem_of(post('{"client_id": "x", "permits": NaN}'), 400)
    problem_of(post(""), 400)
    problem_of(post("{}", "text/plain"), 415)
    problem_of(post(json.dumps({"unused": 1, "client_id": "x" * 8192})), 413)
    problem_of(post('{"client_id": "x", "permits": 1, "unused": 1, "unused": 1}'), 422)
    problem_of(node.request("GET", path, key=None), 405)
    chunked = b"Transfer-Encoding: chunked\r\n"
    sent = request(f"POST {path}", CLOSE, chunked, b"Content-Type: application/json\r\n", body=b"2\r\n{}\r\n0\r\n\r\n")
    assert exchange(node.port, sent).status_code == 411


def test_metrics_count_permits_by_rule(node: Node, put_rules: PutRules, client: str) -> None:
    put_rules({"client_id": client, "rate": 10, "endpoint": "login", **HOUR})
    labels = f'{{client_id="{client}",endpoint="login"}}'
    series = [f"ratelimiter_lease_permits_{what}_total{labels}" for what in ("granted", "returned")]
    lease_id = lease(node, client, 8, limit_key="login")["lease_id"]
    for _ in range(3):
        give_back(node, lease_id, 5)
    assert [node.metric(name) for name in series] == [8, 5]


def test_who_is_granted_nothing_is_among_the_limited(node: Node, other_tenant: OtherTenant, client: str) -> None:
    key = other_tenant.key  # of whose clients hardly any is denied: only the hundred denied most are shown
    rule = {"client_id": client, "action": "block"}
    assert node.request("POST", "/v1/admin/rules", key=key, json=rule).status_code == 201
    node.await_rules()
    assert acquire(node, client, key=key).json()["granted"] == 0

    def limited() -> set[str]:
        return {entry["client_id"] for entry in node.request("GET", "/v1/admin/limited", key=key).json()}

    assert node.eventually(lambda: client in limited())


def test_a_key_without_the_scope_may_not_lease(node: Node, make_key: MakeKey, client: str) -> None:
    key = make_key("rules:read")["key"]
    body = {"client_id": client, "permits": 1}
    problem_of(node.request("POST", "/v1/leases", key=key, json=body), 403)
    problem_of(node.request("POST", "/v1/leases", key="wrong", json=body), 401)
    assert left(node, client) == 100
