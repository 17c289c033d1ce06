"""POST /v1/check/batch."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
import redis
import requests

from app.api.auth import Credentials
from app.api.check.handler import LEAST_TOGETHER, Request
from app.limiter.redis.store import RedisStore
from app.limiter.store import RuleSource
from app.rules.rule import Limit, Rule, default_rule
from app.rules.rule_book import RuleBook, Snapshot
from tests.api.conftest import PutRules
from tests.api.raw_http import problem_of
from tests.support.handlers import handler_of
from tests.support.limiters import limiter_of
from tests.support.node import Node

FEW_READS = 200  # 20 trips arrive in some dozens of reads; 1000 trips are 1000 reads at least


@pytest.fixture(scope="module")
def limited(node: Node, put_rules: PutRules) -> str:
    """A prefix of client ids with 10 units an hour each."""
    put_rules({"client_id": "batch_*", "rate": 10, "window": 3600, "algorithm": "fixed_window"})
    return "batch_"


def _batch(node: Node, *checks: Any) -> requests.Response:
    return node.request("POST", "/v1/check/batch", key=None, json={"checks": list(checks)})


def _results(answer: requests.Response) -> list[dict[str, Any]]:
    assert answer.status_code == 200, answer.text
    assert set(answer.json()) == {"results"}
    results: list[dict[str, Any]] = answer.json()["results"]
    return results


def test_answers_come_in_the_order_of_the_checks(node: Node, limited: str, client: str) -> None:
    costs = [3, 0, 9, 7, 1, 0]
    results = _results(_batch(node, *({"client_id": limited + client, "cost": cost} for cost in costs)))
    assert [result["allowed"] for result in results] == [True, True, False, True, False, True]
    assert [result["remaining"] for result in results] == [7, 7, 7, 0, 0, 0]


def test_an_answer_in_a_batch_is_an_answer_as_alone(node: Node, limited: str, client: str) -> None:
    [together] = _results(_batch(node, {"client_id": limited + client}))
    alone = node.check(limited + client)
    assert {name: type(value) for name, value in together.items()} == {
        name: type(value) for name, value in alone.items()
    }
    assert (together["remaining"], alone["remaining"]) == (9, 8)


def test_checks_are_independent_of_each_other(node: Node, limited: str, client: str) -> None:
    greedy, modest = f"{limited}{client}1", f"{limited}{client}2"
    results = _results(
        _batch(
            node,
            {"client_id": greedy, "cost": 11},
            {"client_id": modest},
            {"client_id": greedy, "cost": 10},
            {"client_id": client, "limit_key": "login"},
        )
    )
    assert [result["reason"] for result in results] == [
        "cost_exceeds_limit",
        "within_limit",
        "within_limit",
        "within_limit",
    ]
    assert results[3]["rule_id"] == "default"


@pytest.mark.parametrize("count", [1, 1000])
def test_one_to_a_thousand_checks_are_accepted(node: Node, limited: str, client: str, count: int) -> None:
    results = _results(_batch(node, *({"client_id": f"{limited}{client}{count}"} for _ in range(count))))
    assert len(results) == count
    assert sum(result["allowed"] for result in results) == min(count, 10)


@pytest.mark.parametrize("count", [0, 1001])
def test_none_and_more_than_a_thousand_are_refused(node: Node, limited: str, client: str, count: int) -> None:
    answer = _batch(node, *({"client_id": limited + client} for _ in range(count)))
    assert set(problem_of(answer, 422)["errors"]) == {"checks"}
    assert node.check(limited + client, cost=0)["remaining"] == 10


@pytest.mark.parametrize(
    ("invalid", "field"),
    [
        ('{"client_id": ""}', "client_id"),
        ('{"client_id": "x", "cost": -1}', "cost"),
        ('{"client_id": "x", "cost": true}', "cost"),
        ('{"client_id": "x", "limit": 1}', "limit"),
        ('{"client_id": "x", "client_id": "y"}', "client_id"),
        ('{"limit_key": "x"}', "client_id"),
        ('{"client_id": "\\ud800"}', "client_id"),
        ('{"client_id": "x", "cost": "\\ud800"}', "cost"),
        ('{"client_id": "x", "request_id": "\\ud800"}', "request_id"),
        ("[]", "_schema"),
        ("null", None),
        ("7", "_schema"),
    ],
)
def test_one_invalid_check_refuses_all_and_names_its_index(
    node: Node, limited: str, client: str, invalid: str, field: str | None
) -> None:
    good = '{"client_id": "%s"}' % (limited + client)
    body = f'{{"checks": [{good}, {good}, {invalid}, {good}]}}'
    headers = {"Content-Type": "application/json"}
    problem = problem_of(node.request("POST", "/v1/check/batch", key=None, data=body, headers=headers), 422)
    assert set(problem["errors"]["checks"]) == {"2"}
    assert field is None or field in problem["errors"]["checks"]["2"]
    assert node.check(limited + client, cost=0)["remaining"] == 10


@pytest.mark.parametrize(
    "body",
    [{}, [], {"checks": None}, {"checks": {}}, {"checks": "x"}, {"checks": [{"client_id": "x"}], "more": 1}],
    ids=str,
)
def test_a_batch_of_another_shape_is_refused(node: Node, body: Any) -> None:
    problem_of(node.request("POST", "/v1/check/batch", key=None, json=body), 422)


def test_a_batch_is_few_trips_to_redis(node: Node, limited: str, client: str, redis_client: redis.Redis) -> None:
    def reads() -> int:
        return int(redis_client.info("stats")["total_reads_processed"])

    before = reads()
    _results(_batch(node, *({"client_id": f"{limited}{client}{number}"} for number in range(1000))))
    assert reads() - before < FEW_READS


# Patterns that all have to be tried for one client id.
ALIKE = [f"{'a' * head}*{'b' * tail}" for head in range(1, 21) for tail in range(1, 16)]


@pytest.mark.parametrize(
    ("patterns", "together"), [([], 250), (["premium_*"], 250), (ALIKE[:100], 50), (ALIKE, LEAST_TOGETHER)]
)
def test_each_piece_of_a_batch_is_one_trip_and_all_are_decided_in_order(
    store: RedisStore, patterns: list[str], together: int
) -> None:
    stored = tuple(Rule(id=number, client_id=name, limits=(Limit(1, 1),)) for number, name in enumerate(patterns, 1))
    book = RuleBook(Snapshot(1, b"parts", stored), default=default_rule(5_000, 3600), algorithm="fixed_window")
    rules: RuleSource = SimpleNamespace(book=book)
    trips: list[int] = []

    class Counting(RedisStore):
        def check(self, charges, now_us=None, loads=()):  # type: ignore[no-untyped-def]
            trips.append(len(charges))
            return super().check(charges, now_us, loads)

    handler = handler_of(rules, limiter_of(rules, Counting(store._connection)))
    body = json.dumps({"checks": [{"client_id": f"parts-{uuid4().hex}"}] * 1000}).encode()
    reply = handler.handle_batch(Request(body, Credentials(None, None), "test"))
    remaining = [result["remaining"] for result in json.loads(reply.body)["results"]]
    assert remaining == list(range(4_999, 3_999, -1))
    assert trips == [together] * (1000 // together)


def test_so_many_checks_as_would_stop_the_worker_are_not_decided_together(store: RedisStore) -> None:
    stored = tuple(Rule(id=number, client_id=name, limits=(Limit(1, 1),)) for number, name in enumerate(ALIKE, 1))
    book = RuleBook(Snapshot(1, b"together", stored), default=default_rule(9, 60), algorithm="fixed_window")
    rules: RuleSource = SimpleNamespace(book=book)
    handler = handler_of(rules, limiter_of(rules, store))
    for number, status in ((133, 200), (134, 422)):
        checks = [{"client_id": f"{place}-{uuid4().hex}"} for place in range(number)]
        body = json.dumps({"checks": checks, "together": True}).encode()
        reply = handler.handle_batch(Request(body, Credentials(None, None), "test"))
        assert reply.status == status, reply.body
    assert "at most 133 checks are decided together; there are 134" in json.loads(reply.body)["errors"]["checks"][0]


def test_together_all_are_charged_or_none_is(node: Node, limited: str, client: str) -> None:
    mine, other = limited + client, f"{limited}{client}-2"

    def asked(*costs: int) -> list[tuple[bool, int]]:
        checks = [{"client_id": each, "cost": cost} for each, cost in zip((mine, other), costs, strict=True)]
        body = {"checks": checks, "together": True}
        results = _results(node.request("POST", "/v1/check/batch", key=None, json=body))
        return [(result["allowed"], result["remaining"]) for result in results]

    assert asked(4, 7) == [(True, 6), (True, 3)]
    assert asked(4, 7) == [(True, 6), (False, 3)]
    assert asked(6, 3) == [(True, 0), (True, 0)]


def test_results_have_the_headers_of_a_single_answer_where_they_are_asked_for(
    node: Node, limited: str, client: str
) -> None:
    checks = [{"client_id": limited + client, "cost": cost} for cost in (10, 1, 11)]
    body = {"checks": checks, "headers": True}
    results = _results(node.request("POST", "/v1/check/batch", key=None, json=body))
    single = node.request("POST", "/v1/check", key=None, json=checks[1])
    named = {name for name in single.headers if name.startswith("RateLimit") or name == "Retry-After"}
    assert results[1]["headers"].keys() == named == {"RateLimit", "RateLimit-Policy", "Retry-After"}
    assert results[1]["headers"]["RateLimit-Policy"] == single.headers["RateLimit-Policy"]
    assert ["Retry-After" in result["headers"] for result in results] == [False, True, False]
    plain = _results(node.request("POST", "/v1/check/batch", key=None, json=body | {"headers": False}))
    assert all("headers" not in result for result in plain)


def test_a_batch_carries_no_rate_limit_headers(node: Node, limited: str, client: str) -> None:
    answer = _batch(node, *({"client_id": limited + client} for _ in range(11)))
    assert not [name for name in answer.headers if "ratelimit" in name.lower() or name.lower() == "retry-after"]
    assert answer.headers["X-Correlation-ID"]
