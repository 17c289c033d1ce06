"""One charge per request id: what a client may safely send again."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
import redis

from tests.api.raw_http import problem_of
from tests.support.burst import Burst
from tests.support.faults import Figures
from tests.support.node import Node


def new(name: str) -> str:
    return f"{name} {uuid.uuid4()}"


def test_the_same_id_returns_the_decision_and_charges_nothing_more(node: Node) -> None:
    client = new("once")
    first = node.check(client, cost=3, request_id="r-1")
    assert node.check(client)["remaining"] == 96
    assert node.check(client, cost=3, request_id="r-1") == first
    assert node.check(client, cost=0)["remaining"] == 96
    assert node.check(client, cost=3, request_id="r-2")["remaining"] == 93


def test_another_cost_or_key_under_the_id_is_a_conflict_and_charges_nothing(node: Node) -> None:
    client = new("conflict")
    node.check(client, request_id="r")
    for body in ({"cost": 2}, {"limit_key": "other"}):
        answer = node.request("POST", "/v1/check", key=None, json={"client_id": client, "request_id": "r"} | body)
        problem_of(answer, 409)
    assert node.check(client, cost=0)["remaining"] == 99


def test_an_id_belongs_to_its_client(node: Node) -> None:
    one, other = new("one"), new("other")
    node.check(one, cost=5, request_id="r")
    assert node.check(other, cost=7, request_id="r")["remaining"] == 93


def test_a_denial_is_not_remembered(node: Node) -> None:
    client = new("denied")
    node.put_rule(client_id=client, rate=2, window=3600)
    assert not node.check(client, cost=3, request_id="r")["allowed"]
    node.check(client, cost=2)
    for _ in range(2):  # asked again it is decided again, and is still a no
        assert not node.check(client, cost=2, request_id="later")["allowed"]
    node.put_rule(client_id=client, rate=4, window=3600)
    assert node.check(client, cost=2, request_id="later")["allowed"]


def test_an_admitted_id_is_answered_also_when_nothing_is_left(node: Node) -> None:
    client = new("over")
    node.put_rule(client_id=client, rate=2, window=3600)
    first = node.check(client, cost=2, request_id="r")
    assert not node.check(client)["allowed"]
    assert not node.check(client, cost=2)["allowed"]  # a denial that the worker remembers
    assert node.check(client, cost=2, request_id="r") == first


@pytest.mark.parametrize(
    "edited",
    [
        {"rate": 3, "window": 1000},
        {"rate": 20, "window": 500, "algorithm": "gcra", "burst": 7},
        {"limits": [{"rate": 5, "window": 10}, {"rate": 2, "window": 1000, "algorithm": "fixed_window"}]},
    ],
)
def test_the_decision_is_told_again_as_it_was_although_the_rule_was_edited(node: Node, edited: dict[str, Any]) -> None:
    client = new("edited")
    rule = node.put_rule(client_id=client, limits=[{"rate": 9, "window": 60}, {"rate": 10, "window": 1000}])
    answer = {"client_id": client, "request_id": "r", "cost": 2}
    first = node.request("POST", "/v1/check", key=None, json=answer)
    node.put_rule(client_id=client, **edited)
    again = node.request("POST", "/v1/check", key=None, json=answer)
    assert again.json() == first.json()
    assert again.json()["rule_id"] == rule["id"]
    assert again.headers["RateLimit-Policy"] == first.headers["RateLimit-Policy"]
    assert node.check(client, cost=0)["limit"] < 9  # by what it is now


def test_the_decision_is_told_again_as_it_was_although_another_rule_decides_now(node: Node) -> None:
    client = new("taken over")
    first = node.check(client, request_id="r")
    node.put_rule(client_id=client, rate=20, window=10)
    assert first["rule_id"] == "default"
    assert node.check(client, request_id="r") == first
    assert node.check(client)["limit"] == 20


def test_ids_on_peeks_and_on_outright_rules_are_ignored(node: Node) -> None:
    client = new("peek")
    assert node.check(client, cost=0, request_id="r")["remaining"] == 100
    assert node.check(client, cost=1, request_id="r")["remaining"] == 99
    allowed = new("allowed")
    node.put_rule(client_id=allowed, action="allow")
    for cost in (1, 2):
        assert node.check(allowed, cost=cost, request_id="r")["reason"] == "allowed_by_rule"


def test_in_a_batch_an_id_charges_once_and_a_conflict_is_that_items_error(node: Node) -> None:
    client = new("batch")
    checks = [{"client_id": client, "request_id": "r", "cost": cost} for cost in (2, 2, 3)]
    answer = node.request("POST", "/v1/check/batch", key=None, json={"checks": [*checks, {"client_id": client}]})
    first, again, conflict, last = answer.json()["results"]
    assert first == again
    assert (first["remaining"], last["remaining"]) == (98, 97)
    assert conflict["error"]["status"] == 409


@pytest.mark.fault(31, "50 checks at once with one request_id")
def test_fifty_at_once_with_the_same_id_charge_once(node: Node, measured: Figures) -> None:
    """One is charged, and all get its decision."""
    client = new("fifty")
    with Burst(node.port, 50) as burst:
        decisions = burst.check(client_id=client, request_id="r")
    assert all(decision == decisions[0] for decision in decisions)
    measured["charges"] = 100 - node.check(client, cost=0)["remaining"]
    assert measured["charges"] == 1


def test_what_is_kept_is_small_and_gone_after_a_minute(node: Node, redis_client: redis.Redis) -> None:
    before = set(redis_client.scan_iter("rl:*:Q:*"))
    node.check(new("kept"), request_id="x" * 64)
    [key] = set(redis_client.scan_iter("rl:*:Q:*")) - before
    assert 30_000 < redis_client.pttl(key) <= 60_000  # a busy machine may be late
    assert redis_client.memory_usage(key) <= 240
