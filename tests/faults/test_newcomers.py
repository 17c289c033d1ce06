"""Floods of invented client ids against a bounded number of new clients (row 29 of the fault matrix)."""

from __future__ import annotations

from typing import Any

import pytest
import redis

from tests.faults.conftest import StartNode, StartRedis
from tests.support.faults import Figures
from tests.support.node import ADMIN_KEY, Node

BUDGET, FLOOD = 50, 5_000
RULE = {"client_id": "user *", "rate": 20, "window": 3600, "algorithm": "fixed_window"}


def flood(node: Node, kind: str, *, key: str | None = None) -> list[dict[str, Any]]:
    """The decisions on one check each of so many clients, each hundred on a connection of its own."""
    results: list[dict[str, Any]] = []
    for start in range(0, FLOOD, 100):
        checks = [{"client_id": f"user {kind} {number}"} for number in range(start, start + 100)]
        answer = node.request(
            "POST", "/v1/check/batch", key=key, json={"checks": checks}, headers={"Connection": "close"}
        )
        results += answer.json()["results"]
    return results


@pytest.mark.fault(29, f"{FLOOD:,} invented client ids without a key, `MAX_NEW_CLIENTS_PER_MINUTE={BUDGET}`")
def test_a_flood_of_new_ids_makes_few_keys_and_victims_keep_their_counters(
    start_redis: StartRedis, start_node: StartNode, measured: Figures
) -> None:
    """At most the budget in keys per minute, and one counter per rule for all others; a known client keeps its own."""
    server = start_redis()
    node = start_node(server.url, MAX_NEW_CLIENTS_PER_MINUTE=BUDGET, WEB_CONCURRENCY=2)
    node.put_rule(**RULE)
    assert node.check("user victim", cost=5)["remaining"] == 15
    with redis.Redis.from_url(server.url) as admin:
        decisions = flood(node, "invented")
        counters = admin.dbsize()
    measured["checks"], measured["counters"] = len(decisions), counters
    measured["admitted"] = sum(decision["allowed"] for decision in decisions)
    measured["the victim has left, of 15"] = node.check("user victim", cost=0)["remaining"]
    minutes = 3  # that such a flood may touch on a slow machine
    assert counters <= minutes * BUDGET + 2  # with the victim's and the shared one
    assert measured["admitted"] <= minutes * BUDGET + RULE["rate"]
    assert measured["the victim has left, of 15"] == 15


def test_single_checks_are_judged_too_and_callers_with_a_key_are_untouched(
    start_redis: StartRedis, start_node: StartNode
) -> None:
    """On the stock worker, the other tests having the fast lane."""
    node = start_node(start_redis().url, MAX_NEW_CLIENTS_PER_MINUTE=1, WEB_CONCURRENCY=1, FAST_LANE="false")
    node.put_rule(**RULE)
    left = [node.check(f"user single {number}")["remaining"] for number in range(12)]
    assert min(left) <= 19 - 8  # the first of each minute is on his own, the others share
    assert {decision["remaining"] for decision in flood(node, "keyed", key=ADMIN_KEY)} == {19}


def test_it_is_off_by_default(node: Node) -> None:
    node.put_rule(**RULE)
    assert {decision["remaining"] for decision in flood(node, "free")} == {19}
