"""Which rule decides a check, and which counters it has, seen through HTTP."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from tests.api.conftest import PutRules
from tests.support.node import Node

MARK = f"choice-{uuid4().hex[:8]}"
KEY = f"key-{MARK}"


def _rule(client_id: str, rate: int = 10, **fields: Any) -> dict[str, Any]:
    """A rule whose quota does not come back while a test runs."""
    return {"client_id": client_id, "rate": rate, "window": 3600, "algorithm": "fixed_window"} | fields


@pytest.fixture(scope="module", autouse=True)
def ids(put_rules: PutRules) -> dict[tuple[str, str | None], int]:
    """The rules of this file, by client pattern and endpoint: their ids."""
    minute = {"rate": 15, "window": 60, "algorithm": "fixed_window"}
    eight = [{"rate": 10 + number, "window": 3600 + number, "algorithm": "gcra"} for number in range(8)]
    stored = put_rules(
        _rule(f"{MARK}_gold_1"),
        _rule(f"{MARK}_gold_1", endpoint=KEY),
        _rule(f"{MARK}_gold_*"),
        _rule(f"{MARK}_*", endpoint=KEY),
        _rule(f"{MARK}_*_b"),
        _rule(f"{MARK}_a*b"),
        _rule("*", endpoint=KEY),
        _rule(f"{MARK}-star", endpoint="*"),
        _rule(f"{MARK}-ten-*"),
        _rule(f"{MARK}-two"),
        _rule(f"{MARK}-two", endpoint="login"),
        _rule(f"{MARK}-two*", endpoint="other"),
        _rule(f"{MARK}-five", 5),
        _rule(f"{MARK}-five*", 2, shadow=True),
        _rule(f"{MARK}-shadow", 1, shadow=True),
        {"client_id": f"{MARK}-both", "limits": [{"rate": 10, "window": 1}, minute]},
        {"client_id": f"{MARK}-eight", "limits": eight},
    )
    return {(rule["client_id"], rule["endpoint"]): rule["id"] for rule in stored}


def test_the_most_specific_rule_wins(node: Node, ids: dict[tuple[str, str | None], int]) -> None:
    table = {
        (f"{MARK}_gold_1", "any"): (f"{MARK}_gold_1", None),
        (f"{MARK}_gold_1", KEY): (f"{MARK}_gold_1", KEY),  # within one pattern the endpoint decides
        (f"{MARK}_gold_2", "any"): (f"{MARK}_gold_*", None),
        (f"{MARK}_gold_2", KEY): (f"{MARK}_gold_*", None),  # the longer pattern first, then its endpoints
        (f"{MARK}_x", KEY): (f"{MARK}_*", KEY),
        (f"{MARK}_a_b", "any"): (f"{MARK}_*_b", None),  # as long as the next: the first in the alphabet
        (f"{MARK}_acb", "any"): (f"{MARK}_a*b", None),
        (f"x{MARK}_gold_1", KEY): ("*", KEY),
        (f"{MARK}-star", "*"): (f"{MARK}-star", "*"),
    }
    decided = {asked: node.check(*asked)["rule_id"] for asked in table}
    assert decided == {asked: ids[rule] for asked, rule in table.items()}
    assert node.check(f"{MARK}-star", "any")["rule_id"] == "default"  # in an endpoint a star is a star
    assert node.check(f"{MARK}_x", "any")["rule_id"] == "default"


def test_a_rule_is_one_counter_per_client_whatever_the_limit_key(node: Node, client: str) -> None:
    client = f"{MARK}-ten-{client}"
    remaining = [node.check(client, f"invented-{number}")["remaining"] for number in range(10)]
    assert remaining == [9, 8, 7, 6, 5, 4, 3, 2, 1, 0]
    assert not node.check(client, "one-more")["allowed"]


def test_the_default_too_is_one_counter_per_client(node: Node, client: str) -> None:
    assert node.check(client, "a", cost=60)["allowed"]
    assert not node.check(client, "b", cost=60)["allowed"]


def test_two_rules_never_share_a_counter(node: Node) -> None:
    assert node.check(f"{MARK}-two", cost=10)["remaining"] == 0
    assert node.check(f"{MARK}-two", "login", cost=9)["remaining"] == 1
    assert not node.check(f"{MARK}-two", "other")["allowed"]  # the exact client's own rule covers it
    assert node.check(f"{MARK}-two-too", "other")["remaining"] == 9


def test_clients_of_one_pattern_have_counters_of_their_own(node: Node, client: str) -> None:
    names = [f"{MARK}-ten-{client}{end}" for end in ("a", "b", "c", "")]
    assert [node.check(name, cost=10)["allowed"] for name in names] == [True] * 4
    assert [node.check(name)["allowed"] for name in names] == [False] * 4


def test_a_denial_by_one_limit_charges_none(node: Node, put_rules: PutRules) -> None:
    """Once the first limit denies, once the second. Removing it shows the other, whose counter is kept."""
    hour, day = {"window": 3600, "algorithm": "fixed_window"}, {"window": 86400, "algorithm": "fixed_window"}
    clients = {f"{MARK}-first": [hour | {"rate": 10}, day | {"rate": 15}]}
    clients |= {f"{MARK}-second": [hour | {"rate": 20}, day | {"rate": 10}]}
    put_rules(*({"client_id": client, "limits": limits} for client, limits in clients.items()))
    for client, window in zip(clients, (3600, 86400), strict=True):
        charged = node.check(client, cost=8)
        assert (charged["remaining"], charged["limit"], charged["window"]) == (2, 10, window)
        denial = node.check(client, cost=5)
        assert (denial["allowed"], denial["remaining"], denial["window"]) == (False, 2, window)
    generous = {client: [limit for limit in limits if limit["rate"] != 10] for client, limits in clients.items()}
    put_rules(*({"client_id": client, "limits": limits} for client, limits in generous.items()))
    assert [node.check(client, cost=0)["remaining"] for client in clients] == [15 - 8, 20 - 8]


def test_ten_a_second_and_fifteen_a_minute_hold_together(node: Node) -> None:
    client = f"{MARK}-both"
    assert node.check(client, cost=10)["allowed"]
    denial = node.check(client, cost=10)
    assert (denial["allowed"], denial["reason"]) == (False, "over_limit")
    assert 1000 < denial["retry_after_ms"] <= 60_000  # the longest wait among those that deny
    assert node.eventually(lambda: node.check(client, cost=0)["remaining"] == 5)
    assert node.check(client, cost=5)["remaining"] == 0
    assert node.check(client)["window"] == 60


def test_eight_limits_are_charged_together(node: Node) -> None:
    assert node.check(f"{MARK}-eight", cost=10)["remaining"] == 0
    assert not node.check(f"{MARK}-eight")["allowed"]


def test_a_shadow_rule_reports_and_never_enforces(node: Node, ids: dict[tuple[str, str | None], int]) -> None:
    client = f"{MARK}-five"
    before = node.metric("ratelimiter_shadow_blocked_total")
    decisions = [node.check(client) for _ in range(7)]
    assert {decision["rule_id"] for decision in decisions} == {ids[client, None]}
    assert [decision["allowed"] for decision in decisions] == [True] * 5 + [False] * 2
    assert [decision["remaining"] for decision in decisions] == [4, 3, 2, 1, 0, 0, 0]
    reasons = [decision["reason"] for decision in decisions]
    assert reasons == ["within_limit"] * 2 + ["shadow"] * 3 + ["over_limit"] * 2
    assert node.metric("ratelimiter_shadow_blocked_total") == before + 5


def test_a_shadow_rule_that_blocks_reports_every_check_and_no_peek(node: Node) -> None:
    before = node.metric("ratelimiter_shadow_blocked_total")
    node.put_rule(client_id=f"{MARK}-shut", action="block", shadow=True)
    decisions = [node.check(f"{MARK}-shut", cost=cost) for cost in (1, 2, 0)]
    assert [(decision["allowed"], decision["reason"]) for decision in decisions] == [
        (True, "shadow"),
        (True, "shadow"),
        (True, "within_limit"),
    ]
    assert node.metric("ratelimiter_shadow_blocked_total") == before + 2


def test_a_shadow_rule_alone_leaves_the_default_in_charge(node: Node) -> None:
    decisions = [node.check(f"{MARK}-shadow") for _ in range(2)]
    assert [decision["rule_id"] for decision in decisions] == ["default"] * 2
    assert [decision["reason"] for decision in decisions] == ["within_limit", "shadow"]


def test_a_disabled_rule_does_not_decide_and_keeps_its_counter(node: Node, client: str, put_rules: PutRules) -> None:
    put_rules(_rule(client))
    assert node.check(client, cost=7)["remaining"] == 3
    put_rules(_rule(client, enabled=False))
    assert node.check(client)["rule_id"] == "default"
    put_rules(_rule(client))
    assert node.check(client)["remaining"] == 2
