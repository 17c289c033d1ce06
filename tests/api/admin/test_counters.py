"""Explain, counters and reset: what an operator sees and forgets, against what checks then say."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis

from app.rules.rule import ALGORITHMS
from tests.api.conftest import OtherTenant, PutRules
from tests.api.raw_http import problem_of
from tests.support.node import Node

DAY = 86400
RESET = "/v1/admin/counters/reset"


def _counters(node: Node, client: str, **query: Any) -> list[dict[str, Any]]:
    answer = node.request("GET", "/v1/admin/counters", params={"client_id": client} | query)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()
    return found


def test_counters_are_what_checks_left_and_looking_changes_nothing(
    node: Node, client: str, put_rules: PutRules, redis_client: redis.Redis
) -> None:
    limits = [{"rate": 10, "window": DAY, "algorithm": algorithm} for algorithm in ALGORITHMS]
    [several, login, _] = put_rules(
        {"client_id": client, "limits": limits},
        {"client_id": client, "endpoint": "login", "rate": 7, "window": DAY},
        {"client_id": client, "endpoint": "free", "action": "allow"},
    )
    node.check(client, cost=4)
    node.check(client, "login", cost=2)
    before = set(redis_client.keys("rl:*"))
    found = {(each["rule_id"], each["algorithm"], each["limit"]): each["remaining"] for each in _counters(node, client)}
    own = {key: left for key, left in found.items() if key[0] in (several["id"], login["id"])}
    assert own == {(several["id"], name, 10): 6 for name in ALGORITHMS} | {(login["id"], "token_bucket", 7): 5}
    assert found["default", "token_bucket", 100] == 100
    assert set(redis_client.keys("rl:*")) == before
    assert len(_counters(node, client, page_size=2, page=2)) == 2


def test_a_reset_forgets_all_counters_of_the_client_on_every_worker(
    node: Node, client: str, put_rules: PutRules
) -> None:
    put_rules(
        {"client_id": client, "rate": 3, "window": DAY},
        {"client_id": client, "endpoint": "login", "rate": 2, "window": DAY, "algorithm": "fixed_window"},
        {"client_id": f"{client}*", "rate": 9, "window": DAY, "shadow": True},
    )
    node.check(client, cost=3)
    node.check(client, "login", cost=2)
    # Denials that the workers remember: a reset must not be answered out of memory.
    assert {node.check(client)["allowed"] for _ in range(8)} == {False}
    assert {node.check(client, "login")["allowed"] for _ in range(8)} == {False}
    answer = node.request("POST", RESET, json={"client_id": client})
    assert (answer.status_code, answer.content) == (204, b"")
    node.await_rules()
    assert [node.check(client)["allowed"] for _ in range(4)] == [True, True, True, False]
    assert node.check(client, "login")["remaining"] == 1
    [event] = node.request("GET", "/v1/admin/audit", params={"subject": f"client {client}"}).json()
    assert (event["action"], event["after"]["limit_key"]) == ("counters.reset", None)


def test_a_reset_of_a_key_forgets_only_the_rule_that_decides_it(node: Node, client: str, put_rules: PutRules) -> None:
    put_rules(
        {"client_id": client, "rate": 10, "window": DAY},
        {"client_id": client, "endpoint": "login", "rate": 10, "window": DAY},
    )
    node.check(client, cost=4)
    node.check(client, "login", cost=4)
    assert node.request("POST", RESET, json={"client_id": client, "limit_key": "login"}).status_code == 204
    assert (node.check(client, cost=0)["remaining"], node.check(client, "login", cost=0)["remaining"]) == (6, 10)
    assert node.request("POST", RESET, json={"client_id": client, "limit_key": "anything else"}).status_code == 204
    assert node.check(client, cost=0)["remaining"] == 10


def test_a_reset_reaches_no_other_client_and_no_other_tenant(
    node: Node, client: str, put_rules: PutRules, other_tenant: OtherTenant
) -> None:
    put_rules({"client_id": f"{client}*", "rate": 10, "window": DAY})
    for name in (client, f"{client}-2"):
        node.check(name, cost=4)
    assert node.request("POST", RESET, key=other_tenant.key, json={"client_id": client}).status_code == 204
    assert node.check(client, cost=0)["remaining"] == 6
    assert node.request("POST", RESET, json={"client_id": client}).status_code == 204
    assert (node.check(client, cost=0)["remaining"], node.check(f"{client}-2", cost=0)["remaining"]) == (10, 6)


def test_the_default_and_blocked_clients_can_be_reset_too(node: Node, client: str, put_rules: PutRules) -> None:
    node.check(client, cost=30)
    assert node.request("POST", RESET, json={"client_id": client}).status_code == 204
    assert node.check(client, cost=0)["remaining"] == 100
    put_rules({"client_id": client, "action": "block"})
    body = {"client_id": client, "limit_key": "global"}
    assert node.request("POST", RESET, json=body).status_code == 204


def test_explain_shows_the_rule_that_decides_and_what_is_left(node: Node, client: str, put_rules: PutRules) -> None:
    glob, exact, shadow, asleep = put_rules(
        {"client_id": f"{client}*", "endpoint": "login", "rate": 5, "window": DAY},
        {"client_id": client, "rate": 10, "window": DAY},
        {"client_id": client, "rate": 1, "window": DAY, "shadow": True},
        {"client_id": client, "endpoint": "login", "rate": 1, "window": DAY, "enabled": False},
    )
    node.check(client, "login", cost=1)
    params = {"client_id": client, "limit_key": "login"}
    explained = node.request("GET", "/v1/admin/explain", params=params).json()
    assert (explained["rule_id"], explained["shadow_rule_id"]) == (exact["id"], shadow["id"])
    assert node.check(client, "login", cost=0)["rule_id"] == exact["id"]
    candidates = {candidate["rule_id"]: candidate for candidate in explained["candidates"]}
    assert candidates.keys() >= {glob["id"], exact["id"], shadow["id"], asleep["id"], "default"}
    wins = {rule_id for rule_id, candidate in candidates.items() if candidate["wins"]}
    assert wins == {exact["id"], shadow["id"]}
    left = {rule_id: [counter["remaining"] for counter in candidates[rule_id]["counters"]] for rule_id in candidates}
    assert (left[exact["id"]], left[shadow["id"]], left[glob["id"]], left[asleep["id"]]) == ([9], [0], [5], [])
    assert candidates[asleep["id"]]["why"] == "it is disabled"
    assert all(candidate["why"] for candidate in candidates.values())


@pytest.mark.parametrize("path", ["/v1/admin/explain", "/v1/admin/counters"])
@pytest.mark.parametrize("client_id", [None, "", "c" * 257, "a\x00"])
def test_a_question_about_no_client_is_422(node: Node, path: str, client_id: str | None) -> None:
    params = {} if client_id is None else {"client_id": client_id}
    assert "client_id" in problem_of(node.request("GET", path, params=params), 422)["errors"]


@pytest.mark.parametrize("body", [{}, {"client_id": ""}, {"client_id": 1}, {"client_id": "a", "limit_key": None}])
def test_a_reset_of_no_client_is_422(node: Node, body: dict[str, Any]) -> None:
    assert problem_of(node.request("POST", RESET, json=body), 422)["errors"]


def test_without_redis_counters_are_503_and_a_reset_changes_nothing(
    new_database: Callable[[str], str], tmp_path: Path
) -> None:
    url = f"unix://{tmp_path}/nobody.sock"
    with Node(redis_url=url, database_url=new_database("noredis"), data_dir=tmp_path, WEB_CONCURRENCY=1) as alone:
        version = alone.request("GET", "/health", key=None).json()["rules_version"]
        for method, path, body in (
            ("GET", "/v1/admin/counters?client_id=x", None),
            ("GET", "/v1/admin/explain?client_id=x", None),
            ("POST", RESET, {"client_id": "x"}),
        ):
            answer = alone.request(method, path, json=body)
            problem_of(answer, 503)
            assert answer.headers["Retry-After"] == "1"
        assert alone.request("GET", "/health", key=None).json()["rules_version"] == version
        assert alone.request("GET", "/v1/admin/audit").json() == []
