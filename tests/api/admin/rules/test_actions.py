"""Blocking a client, letting it in again, promoting a shadow; what checks, the audit and the metrics say of it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.conftest import PutRules
from tests.api.raw_http import problem_of
from tests.support.node import Node

RULES = "/v1/admin/rules"
DAY = 86_400  # so long that no unit comes back during a test


def _block(node: Node, client: str, verb: str = "block") -> dict[str, Any]:
    answer = node.request("POST", f"{RULES}/{verb}", json={"client_id": client})
    assert answer.status_code == 200, answer.text
    node.await_rules()
    body: dict[str, Any] = answer.json()
    return body


def test_a_blocked_client_is_denied_on_every_endpoint_and_goes_on_where_it_was(
    node: Node, client: str, put_rules: PutRules
) -> None:
    rule = {"client_id": client, "rate": 10, "window": DAY}
    stored = put_rules(rule, rule | {"endpoint": "login"}, rule | {"endpoint": "export", "enabled": False})
    keys = ("global", "login", "export")
    assert [node.check(client, key, cost=4)["remaining"] for key in keys] == [6, 6, 2]
    blocked = _block(node, client)
    assert [each["id"] for each in blocked["rules"]] == [each["id"] for each in stored[:2]]
    assert "warnings" not in blocked
    for key in keys:
        decision = node.check(client, key)
        assert (decision["allowed"], decision["reason"]) == (False, "blocked_by_rule")
    assert _block(node, client)["rules"] == blocked["rules"]  # again: nothing changes
    freed = _block(node, client, "unblock")
    assert [each["version"] for each in freed["rules"]] == [3, 3]
    assert [node.check(client, key)["remaining"] for key in keys] == [1, 5, 0]  # counters are kept
    events = node.request("GET", "/v1/admin/audit", params={"client_id": client, "action": "rule.*"}).json()
    actions = [event["action"] for event in events]
    assert actions == ["rule.unblock"] * 2 + ["rule.block"] * 2 + ["rule.create"] * 3


def test_a_client_without_rules_is_blocked_and_let_in_again(node: Node, client: str) -> None:
    [rule] = _block(node, client)["rules"]
    assert node.check(client, "any")["rule_id"] == rule["id"]
    freed = _block(node, client, "unblock")
    assert (freed["rules"], freed["deleted"]) == ([], [rule["id"]])
    assert node.check(client)["rule_id"] == "default"
    assert _block(node, client, "unblock") == {"client_id": client, "rules": [], "deleted": []}


def test_a_blocked_pattern_names_the_clients_that_still_get_in(node: Node, client: str, put_rules: PutRules) -> None:
    [own] = put_rules({"client_id": f"{client}-7", "rate": 5, "window": DAY})
    blocked = _block(node, f"{client}*")
    number = blocked["rules"][0]["id"]
    assert blocked["warnings"] == [
        f"rule {number} ({client}*, any endpoint, block) does not decide for {client}-7 (rule {own['id']}), "
        "whose own rule comes first"
    ]
    assert [node.check(f"{client}-{name}")["allowed"] for name in (7, 8)] == [True, False]
    still = f"rule {number} ({client}*, any endpoint, block) still blocks it"
    assert _block(node, f"{client}-8", "unblock")["warnings"] == [still]


def test_a_rule_made_meanwhile_that_lets_a_blocked_client_in_says_so(node: Node, client: str) -> None:
    number = _block(node, client)["rules"][0]["id"]
    rule = node.put_rule(client_id=client, endpoint="login", rate=5, window=60)
    assert rule["warnings"] == [
        f"rule {number} ({client}, any endpoint, block) does not decide for {client} on login (rule {rule['id']}), "
        "whose own rule comes first"
    ]
    assert _block(node, client)["rules"][0]["action"] == "block"
    assert not node.check(client, "login")["allowed"]


@pytest.mark.parametrize("body", [{}, {"client_id": ""}, {"client_id": 5}, {"client_id": "x", "endpoint": "login"}])
@pytest.mark.parametrize("verb", ["block", "unblock"])
def test_a_block_of_nobody_is_refused(node: Node, verb: str, body: dict[str, Any]) -> None:
    problem_of(node.request("POST", f"{RULES}/{verb}", json=body), 422)


def test_a_shadow_is_counted_by_rule_and_then_promoted(node: Node, client: str, put_rules: PutRules) -> None:
    """The procedure of docs/operations.md: try, compare, enforce."""
    rule = {"client_id": client, "endpoint": "login", "algorithm": "fixed_window"}
    enforced, shadow = put_rules(
        rule | {"rate": 10, "window": DAY, "fail_mode": "closed", "description": "log-in"},
        rule | {"rate": 3, "window": DAY, "shadow": True},
    )
    assert [node.check(client, "login")["allowed"] for _ in range(5)] == [True] * 5
    node.check(client, "login", cost=0)  # a peek is no check
    series = f'ratelimiter_shadow_rule_checks_total{{client_id="{client}",endpoint="login",would="%s"}}'
    assert [node.metric(series % would) for would in ("allow", "deny")] == [3.0, 2.0]
    answer = node.request("POST", f"{RULES}/{shadow['id']}/promote")
    assert answer.status_code == 200, answer.text
    now = answer.json()
    assert now.items() >= {"id": enforced["id"], "version": 2, "rate": 3, "shadow": False}.items()
    assert (now["fail_mode"], now["description"]) == ("closed", "log-in")
    assert node.request("GET", f"{RULES}/{shadow['id']}").status_code == 404
    node.await_rules()
    decision = node.check(client, "login")
    assert (decision["allowed"], decision["rule_id"], decision["limit"]) == (False, enforced["id"], 3)  # 5 are counted
    events = node.request("GET", "/v1/admin/audit", params={"client_id": client}).json()
    assert [(event["action"], event["subject"]) for event in events[:2]] == [
        ("rule.delete", f"rule {shadow['id']}"),
        ("rule.promote", f"rule {enforced['id']}"),
    ]


def test_a_shadow_that_allows_or_blocks_is_counted_too(node: Node, client: str, put_rules: PutRules) -> None:
    put_rules(
        {"client_id": f"{client}-a", "action": "allow", "shadow": True},
        {"client_id": f"{client}-b", "action": "block", "shadow": True},
    )
    for name in ("a", "b"):
        node.check(f"{client}-{name}")
        node.check(f"{client}-{name}", cost=0)
    counted = [
        node.metric(f'ratelimiter_shadow_rule_checks_total{{client_id="{client}-{name}",endpoint="*",would="{would}"}}')
        for name, would in (("a", "allow"), ("a", "deny"), ("b", "allow"), ("b", "deny"))
    ]
    assert counted == [1.0, 0.0, 0.0, 1.0]


def test_what_is_no_shadow_is_not_promoted(node: Node, client: str, put_rules: PutRules) -> None:
    enforced, asleep = put_rules(
        {"client_id": client, "rate": 5, "window": 60},
        {"client_id": client, "rate": 5, "window": 60, "shadow": True, "enabled": False},
    )
    for rule, told in ((enforced, "is not a shadow rule"), (asleep, "is disabled")):
        problem = problem_of(node.request("POST", f"{RULES}/{rule['id']}/promote"), 409)
        assert told in problem["detail"]
        assert node.request("GET", f"{RULES}/{rule['id']}").json() == rule


def test_a_shadow_that_changed_meanwhile_is_not_promoted(node: Node, client: str, put_rules: PutRules) -> None:
    [shadow] = put_rules({"client_id": client, "rate": 5, "window": 60, "shadow": True})
    path = f"{RULES}/{shadow['id']}"
    node.request("PATCH", path, json={"rate": 1})
    problem_of(node.request("POST", f"{path}/promote", headers={"If-Match": '"1"'}), 412)
    answer = node.request("POST", f"{path}/promote", headers={"If-Match": '"2"'})
    assert (answer.status_code, answer.headers["ETag"], answer.json()["id"]) == (200, '"3"', shadow["id"])
