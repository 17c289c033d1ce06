"""Explain, counters and reset of rules for groups, in layers and with shared counters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple
from uuid import uuid4

import pytest
from sqlalchemy import create_engine
from sqlalchemy.orm import Session

from app.rules.rule import Limit
from tests.api.conftest import OtherTenant
from tests.api.raw_http import problem_of
from tests.support.node import Node
from tests.support.stored import put_rule, rule

DAY = 86_400
RESET = "/v1/admin/counters/reset"
GROUPS = ["org:7", "plan:free"]


class Shop(NamedTuple):
    """A tenant whose rules have three layers, and their ids by name."""

    node: Node
    key: str
    rules: dict[str, int]

    def check(self, client_id: str, groups: list[str], cost: int = 1, **fields: Any) -> dict[str, Any]:
        body = {"client_id": client_id, "groups": groups, "cost": cost} | fields
        answer = self.node.request("POST", "/v1/check", key=self.key, json=body)
        assert answer.status_code == 200, answer.text
        decision: dict[str, Any] = answer.json()
        return decision

    def get(self, path: str, **query: Any) -> Any:
        answer = self.node.request("GET", f"/v1/admin/{path}", key=self.key, params=query)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def left(self, **query: Any) -> dict[int, int]:
        """What is left, by rule."""
        return {each["rule_id"]: each["remaining"] for each in self.get("counters", **query)}

    def reset(self, **body: Any) -> Any:
        return self.node.request("POST", RESET, key=self.key, json=body)


@pytest.fixture(scope="module")
def shop(node: Node, database_url: str, make_tenant: Callable[[], OtherTenant]) -> Shop:
    tenant = make_tenant()

    def of(client_id: str, rate: int, **fields: Any) -> Any:
        return rule(client_id, Limit(rate, DAY, "fixed_window"), tenant_id=tenant.id, **fields)

    engine = create_engine(database_url)
    with Session(engine) as session:
        stored = {
            "all": of("*", 100),
            "free": of("", 50, group="plan:free"),
            "org": of("", 20, group="org:*", layer="org", shared=True),
            "big": of("", 500, group="org:big", layer="org", shared=True),
            "shop": of("*", 1000, layer="shop", shared=True),
            "trial": of("", 1, group="org:7", layer="org", shadow=True),
        }
        rules = {name: put_rule(session, each)[0].id for name, each in stored.items()}
    engine.dispose()
    node.put_rule(key=tenant.key, client_id="last", rate=1, window=1)  # whoever knows it knows the others
    return Shop(node, tenant.key, rules)


@pytest.fixture
def ann() -> str:
    return f"ann-{uuid4().hex[:8]}"


@pytest.fixture
def org() -> str:
    return f"org:{uuid4().hex[:8]}"


def test_a_check_is_charged_to_own_and_shared_counters_and_each_is_read_by_its_owner(
    shop: Shop, ann: str, org: str
) -> None:
    groups, before = [org, "plan:free"], shop.left(rule_id=shop.rules["shop"])
    decision = shop.check(ann, groups, 3)
    assert (decision["rule_id"], decision["remaining"]) == (shop.rules["org"], 17)
    shop.check(f"{ann}-2", groups, 4)
    assert shop.left(client_id=ann, groups=groups) == {"default": 100, shop.rules["all"]: 100, shop.rules["free"]: 47}
    assert shop.left(client_id=ann) == {"default": 100, shop.rules["all"]: 100}
    assert shop.left(group=org) == {shop.rules["org"]: 13}
    after = shop.left(rule_id=shop.rules["shop"])
    assert before[shop.rules["shop"]] - after[shop.rules["shop"]] == 7
    [reading] = shop.get("counters", group=org)
    told = {name: reading[name] for name in ("client_id", "group", "layer", "shared", "limit")}
    assert told == {"client_id": None, "group": "org:*", "layer": "org", "shared": True, "limit": 20}


def test_a_reset_of_a_client_leaves_shared_counters_alone_and_the_reverse(shop: Shop, ann: str, org: str) -> None:
    groups = [org, "plan:free"]
    shop.check(ann, groups, 20)
    assert {shop.check(ann, groups)["allowed"] for _ in range(4)} == {False}  # remembered by the workers
    assert shop.reset(client_id=ann).status_code == 204
    assert shop.left(client_id=ann, groups=groups)[shop.rules["free"]] == 50
    assert shop.left(group=org) == {shop.rules["org"]: 0}
    shop.check(ann, ["plan:free"], 30)
    assert shop.reset(group=org).status_code == 204
    assert shop.left(group=org) == {shop.rules["org"]: 20}
    assert shop.left(client_id=ann, groups=groups)[shop.rules["free"]] == 20
    shop.node.await_rules()
    assert shop.check(ann, groups)["allowed"]
    subjects = [event["subject"] for event in shop.get("audit", action="counters.reset")[:2]]
    assert subjects == [f"group {org}", f"client {ann}"]


def test_a_reset_with_groups_and_a_key_is_of_the_rules_that_decide_it(shop: Shop, ann: str) -> None:
    shop.check(ann, ["plan:free"], 10)
    shop.check(ann, [], 10)
    body = {"client_id": ann, "limit_key": "x", "groups": ["plan:free"]}
    assert shop.reset(**body).status_code == 204
    left = shop.left(client_id=ann, groups=["plan:free"])
    assert (left[shop.rules["free"]], left[shop.rules["all"]]) == (50, 90)


def test_a_shared_rule_of_clients_is_reset_by_its_id(shop: Shop, ann: str) -> None:
    shop.check(ann, [], 5)
    assert shop.reset(rule_id=shop.rules["shop"]).status_code == 204
    assert shop.left(rule_id=shop.rules["shop"]) == {shop.rules["shop"]: 1000}
    assert shop.left(client_id=ann)[shop.rules["all"]] == 95
    assert shop.get("audit", action="counters.reset")[0]["subject"] == f"rule {shop.rules['shop']}"


def test_explain_says_for_each_layer_what_decides(shop: Shop, ann: str) -> None:
    explained = shop.get("explain", client_id=ann, groups=GROUPS)
    rules = shop.rules
    assert explained["groups"] == GROUPS
    assert (explained["rule_id"], explained["shadow_rule_id"]) == (rules["free"], None)
    assert explained["layers"] == [
        {"layer": "default", "rule_id": rules["free"], "shadow_rule_id": None},
        {"layer": "org", "rule_id": rules["org"], "shadow_rule_id": rules["trial"]},
        {"layer": "shop", "rule_id": rules["shop"], "shadow_rule_id": None},
    ]
    candidates = {each["rule_id"]: each for each in explained["candidates"]}
    assert candidates.keys() == {"default", *(rules[name] for name in ("all", "free", "org", "shop", "trial"))}
    assert {rule_id for rule_id, each in candidates.items() if each["wins"]} == {
        rules[name] for name in ("free", "org", "shop", "trial")
    }
    shop.check(ann, GROUPS, 0)
    assert [counter["limit"] for counter in candidates[rules["org"]]["counters"]] == [20]
    without = shop.get("explain", client_id=ann)
    assert [(each["layer"], each["rule_id"]) for each in without["layers"]] == [
        ("default", rules["all"]),
        ("shop", rules["shop"]),
    ]


@pytest.mark.parametrize(
    ("query", "field", "told"),
    [
        ({}, "client_id", "Exactly one of client_id, group and rule_id"),
        ({"client_id": "a", "group": "b"}, "client_id", "Exactly one of"),
        ({"group": "a", "rule_id": 1}, "group", "Exactly one of"),
        ({"group": "a" * 129}, "group", "between 1 and 128"),
        ({"group": "a", "groups": "b"}, "groups", "It goes with client_id only."),
        ({"client_id": "a", "groups": [str(place) for place in range(9)]}, "groups", "between 0 and 8"),
        ({"client_id": "a", "groups": ["b", "b"]}, "groups", "more than once"),
        ({"client_id": "a", "groups": ["b\x01"]}, "groups", "Control characters"),
        ({"rule_id": 0}, "rule_id", "greater than or equal to 1"),
    ],
)
def test_what_means_no_counters_is_422(shop: Shop, query: dict[str, Any], field: str, told: str) -> None:
    answer = shop.node.request("GET", "/v1/admin/counters", key=shop.key, params=query)
    body = query | ({"groups": ["b"]} if query.get("groups") == "b" else {})
    for refused in (answer, shop.node.request("POST", RESET, key=shop.key, json=body)):
        errors = problem_of(refused, 422)["errors"]
        assert told in str(errors[field]), errors


def test_a_reset_by_rule_needs_a_shared_rule_of_clients_of_the_tenant(shop: Shop) -> None:
    for name in ("all", "org", "free"):
        errors = problem_of(shop.reset(rule_id=shop.rules[name]), 422)["errors"]
        assert "Allowed is a shared rule of clients" in errors["rule_id"][0]
    problem_of(shop.reset(rule_id=2**40), 404)
    assert shop.node.request("POST", RESET, json={"rule_id": shop.rules["shop"]}).status_code == 404  # another tenant's
    problem_of(shop.reset(group="org:7", limit_key="x"), 422)


def test_leases_and_batches_are_charged_to_the_groups_too(shop: Shop, ann: str, org: str) -> None:
    body = {"client_id": ann, "groups": [org], "permits": 50}
    lease = shop.node.request("POST", "/v1/leases", key=shop.key, json=body).json()
    assert (lease["granted"], shop.left(group=org)) == (20, {shop.rules["org"]: 0})
    checks = [{"client_id": ann, "groups": [org]}, {"client_id": ann}]
    batch = shop.node.request("POST", "/v1/check/batch", key=shop.key, json={"checks": checks}).json()["results"]
    assert [result["allowed"] for result in batch] == [False, True]
    used = {"unused": 20}
    shop.node.request("POST", f"/v1/leases/{lease['lease_id']}/return", key=shop.key, json=used)
    assert shop.left(group=org) == {shop.rules["org"]: 20}
    for wrong in ({"groups": "a"}, {"groups": ["a", "a"]}, {"groups": [""]}):
        answer = shop.node.request("POST", "/v1/leases", key=shop.key, json=body | wrong)
        assert "groups" in problem_of(answer, 422)["errors"]
