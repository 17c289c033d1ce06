"""Tenants: made, deleted with all they have, and blind to one another."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest
import redis

from app.limiter.keys import Keyspace
from tests.api.conftest import MakeKey, OtherTenant
from tests.api.raw_http import problem_of
from tests.support.node import Node

TENANTS = "/v1/admin/tenants"
RULES = "/v1/admin/rules"


@pytest.fixture
def name() -> str:
    return f"tenant-{uuid4().hex[:8]}"


def test_a_new_tenant_has_an_id_and_a_name_of_its_own(node: Node, name: str) -> None:
    answer = node.request("POST", TENANTS, json={"name": name})
    assert (answer.status_code, answer.json()["name"]) == (201, name)
    assert answer.json() in node.request("GET", TENANTS).json()
    problem_of(node.request("POST", TENANTS, json={"name": name}), 409)


@pytest.mark.parametrize("body", [{}, {"name": ""}, {"name": 1}, {"name": "n" * 65}, {"name": "a\x00"}, {"id": 5}])
def test_a_tenant_that_cannot_be_is_422(node: Node, body: dict[str, Any]) -> None:
    assert problem_of(node.request("POST", TENANTS, json=body), 422)["errors"]


def test_an_empty_tenant_goes_at_once(node: Node, name: str) -> None:
    tenant = node.request("POST", TENANTS, json={"name": name}).json()
    assert node.request("DELETE", f"{TENANTS}/{tenant['id']}").status_code == 204
    problem_of(node.request("DELETE", f"{TENANTS}/{tenant['id']}"), 404)


def test_a_tenant_goes_with_all_it_has_and_its_audit_stays(
    node: Node, make_key: MakeKey, name: str, client: str
) -> None:
    tenant = node.request("POST", TENANTS, json={"name": name}).json()
    key = make_key("rules:read", "rules:write", tenant=name)["key"]
    node.request("POST", RULES, key=key, json={"client_id": client, "rate": 1, "window": 1})
    path = f"{TENANTS}/{tenant['id']}"
    planned = node.request("DELETE", path, params={"dry_run": "true"})
    assert (planned.status_code, planned.json()) == (200, {"dry_run": True, "name": name, "rules": 1, "keys": 1})
    for misspelt in ({"dry-run": "true"}, {"confirm": "false"}):
        assert problem_of(node.request("DELETE", path, params=misspelt), 422)["errors"].keys() == misspelt.keys()
    assert len(node.request("GET", RULES, key=key).json()) == 1
    assert node.request("DELETE", path).status_code == 204
    problem_of(node.request("DELETE", path, params={"dry_run": "true"}), 404)
    node.await_rules()
    problem_of(node.request("GET", RULES, key=key), 401)
    theirs = node.request("GET", "/v1/admin/audit", params={"tenant_id": tenant["id"]}).json()
    assert [event["action"] for event in theirs] == ["rule.create", "key.create"]
    [event] = node.request("GET", "/v1/admin/audit", params={"subject": f"tenant {tenant['id']}"}).json()[:1]
    assert (event["action"], event["before"]) == ("tenant.delete", {"name": name, "rules": 1, "keys": 1})


def test_a_new_tenant_never_sees_the_counters_of_a_deleted_one_and_they_leave_redis(
    node: Node, make_key: MakeKey, name: str, client: str, redis_client: redis.Redis, keyspace: Keyspace
) -> None:
    def spend_as_a_new_tenant() -> tuple[int, int]:
        """The tenant's number, and what the client has left after a check."""
        tenant = node.request("POST", TENANTS, json={"name": name}).json()["id"]
        key = make_key("check", tenant=name)["key"]
        check = {"client_id": client, "request_id": "same", "cost": 90}
        return tenant, node.request("POST", "/v1/check", key=key, json=check).json()["remaining"]

    first, left = spend_as_a_new_tenant()
    own = keyspace.of_tenant(first)
    assert len(redis_client.keys(own)) == 2  # the counter, and the answer under the request id
    assert node.request("DELETE", f"{TENANTS}/{first}").status_code == 204
    second, left_again = spend_as_a_new_tenant()
    assert second != first
    assert left_again == left
    assert node.eventually(lambda: not redis_client.keys(own), 30)
    assert len(redis_client.keys(keyspace.of_tenant(second))) == 2


def test_the_default_tenant_stays(node: Node) -> None:
    for options in ({}, {"dry_run": "true"}):
        problem_of(node.request("DELETE", f"{TENANTS}/1", params=options), 409)


def test_what_one_tenant_has_no_other_can_see_or_touch(
    node: Node, other_tenant: OtherTenant, client: str, redis_client: redis.Redis
) -> None:
    """Equal client ids and endpoints on both sides; whatever B asks about A's rule, it is as if there were none."""
    body = {"client_id": client, "endpoint": "login", "rate": 5, "window": 3600}
    ours = node.request("POST", RULES, json=body).json()
    theirs = node.request("POST", RULES, key=other_tenant.key, json=body | {"rate": 7})
    assert theirs.status_code == 201
    node.await_rules()
    path = f"{RULES}/{ours['id']}"
    for method, suffix, sent in (
        ("GET", "", None),
        ("PUT", "", body),
        ("PATCH", "", {"rate": 1}),
        ("DELETE", "", None),
        ("GET", "/versions", None),
        ("POST", "/rollback", {"version": 1}),
    ):
        problem = problem_of(node.request(method, path + suffix, key=other_tenant.key, json=sent), 404)
        nothing = problem_of(node.request(method, f"{RULES}/0{suffix}", key=other_tenant.key, json=sent), 404)
        assert problem["detail"].replace(str(ours["id"]), "0") == nothing["detail"]
    assert [rule["id"] for rule in node.request("GET", RULES, key=other_tenant.key).json()].count(ours["id"]) == 0
    assert node.request("GET", path).json() == ours

    question = {"client_id": client, "limit_key": "login", "cost": 3}
    before = set(redis_client.keys("rl:*"))
    assert node.request("POST", "/v1/check", json=question).json()["remaining"] == 2
    assert node.request("POST", "/v1/check", key=other_tenant.key, json=question).json()["remaining"] == 4
    new = set(redis_client.keys("rl:*")) - before
    assert len({key[: key.index("}")] for key in new}) == len(new) == 2
    for event in node.request("GET", "/v1/admin/audit", key=other_tenant.key).json():
        assert event["subject"] != f"rule {ours['id']}"
    problem_of(node.request("GET", "/v1/admin/audit", key=other_tenant.key, params={"tenant_id": 1}), 403)
