"""API keys: made, shown once, used, rotated, revoked; never more than their maker, never another tenant's."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from app.rules.api_key import SCOPES
from tests.api.conftest import MakeKey, OtherTenant
from tests.api.raw_http import problem_of
from tests.support.node import Node

KEYS = "/v1/admin/api-keys"


def _works(node: Node, key: str, scope: str = "rules:read") -> bool:
    """Whether every worker takes the key: several connections, so that each worker is asked."""
    path = "/v1/admin/rules" if scope == "rules:read" else "/v1/admin/audit"
    return all(node.request("GET", path, key=key, headers={"Connection": "close"}).status_code == 200 for _ in range(8))


def _refused(node: Node, key: str) -> bool:
    answers = [node.request("GET", "/rules", key=key, headers={"Connection": "close"}) for _ in range(8)]
    return all(answer.status_code == 401 for answer in answers)


def test_a_key_is_shown_once_and_works_on_every_worker(node: Node, make_key: MakeKey) -> None:
    made = make_key("rules:read", "rules:read", name="reader")
    assert re.fullmatch(r"rl_[a-z0-9]{8}_[A-Za-z0-9_-]{43}", made["key"])
    assert made["key"][3:11] == made["id"]
    assert (made["tenant"], made["name"], made["scopes"]) == ("default", "reader", ["rules:read"])
    assert _works(node, made["key"])
    listed = next(key for key in node.request("GET", KEYS).json() if key["id"] == made["id"])
    assert listed.keys() == made.keys() - {"key"}
    secret = made["key"][12:]
    audit = node.request("GET", "/v1/admin/audit", params={"subject": f"key {made['id']}"})
    assert [event["action"] for event in audit.json()] == ["key.create"]
    for answer in (node.request("GET", KEYS), audit):
        assert secret not in answer.text
    assert secret not in node.log.read_text()


@pytest.mark.parametrize(
    "change",
    [lambda key: key[:-1], lambda key: key + "x", lambda key: key.swapcase(), lambda key: key[:12] + "A" * 43],
)
def test_a_key_that_is_nearly_right_is_wrong(node: Node, other_tenant: OtherTenant, change: Any) -> None:
    problem_of(node.request("GET", "/rules", key=change(other_tenant.key)), 401)


def test_a_revoked_key_is_refused_by_every_worker(node: Node, make_key: MakeKey) -> None:
    made = make_key("rules:read")
    assert _works(node, made["key"])
    assert node.request("DELETE", f"{KEYS}/{made['id']}").status_code == 204
    node.await_rules()
    assert _refused(node, made["key"])
    problem_of(node.request("DELETE", f"{KEYS}/{made['id']}"), 404)
    assert made["id"] not in [key["id"] for key in node.request("GET", KEYS).json()]
    [revoked] = [key for key in node.request("GET", KEYS, params={"revoked": "true"}).json() if key["id"] == made["id"]]
    assert revoked["revoked_at"]


def test_a_key_ends_when_it_expires(node: Node, make_key: MakeKey) -> None:
    expires_at = datetime.now(UTC) + timedelta(seconds=2)
    made = make_key("rules:read", expires_at=expires_at.isoformat())
    assert datetime.fromisoformat(made["expires_at"]) == expires_at
    assert node.eventually(lambda: _refused(node, made["key"]))
    assert datetime.now(UTC) >= expires_at


def test_rotation_makes_another_key_and_lets_the_old_one_go_on_for_the_overlap(node: Node, make_key: MakeKey) -> None:
    old = make_key("rules:read", "audit:read", name="deploy")
    new = node.request("POST", f"{KEYS}/{old['id']}/rotate", json={}).json()
    same = ("tenant", "name", "scopes", "expires_at")
    assert [new[name] for name in same] == [old[name] for name in same]
    assert new["key"] != old["key"]
    node.await_rules()
    assert _works(node, old["key"])
    assert _works(node, new["key"])
    keys = {key["id"]: key for key in node.request("GET", KEYS).json()}
    left = datetime.fromisoformat(keys[old["id"]]["expires_at"]) - datetime.now(UTC)
    assert timedelta(hours=23) < left < timedelta(hours=25)
    newest = node.request("POST", f"{KEYS}/{new['id']}/rotate", json={"overlap_seconds": 0}).json()
    node.await_rules()
    assert _refused(node, new["key"])
    assert _works(node, newest["key"])


def test_nobody_gives_away_what_he_has_not(node: Node, make_key: MakeKey) -> None:
    maker = make_key("keys:write", "rules:read")
    powerful = make_key("rules:write")
    for scopes in (["rules:write"], ["rules:read", "tenants:write"]):
        answer = node.request("POST", KEYS, key=maker["key"], json={"name": "x", "scopes": scopes})
        problem_of(answer, 403)
    problem_of(node.request("POST", f"{KEYS}/{powerful['id']}/rotate", key=maker["key"], json={}), 403)
    made = node.request("POST", KEYS, key=maker["key"], json={"name": "x", "scopes": ["rules:read"]})
    assert (made.status_code, made.json()["tenant"]) == (201, "default")


def test_another_tenants_keys_need_a_scope_and_tell_nothing_without_it(node: Node, other_tenant: OtherTenant) -> None:
    own = node.request("GET", KEYS, key=other_tenant.key).json()
    assert {key["tenant"] for key in own} == {other_tenant.name}
    body = {"name": "x", "scopes": ["check"]}
    refusals = [
        problem_of(node.request("POST", KEYS, key=other_tenant.key, json=body | {"tenant": name}), 403)
        for name in ("default", "no such tenant")
    ]
    assert refusals[0]["detail"] == refusals[1]["detail"]
    problem_of(node.request("GET", KEYS, key=other_tenant.key, params={"tenant": "default"}), 403)
    assert "tenant" in problem_of(node.request("POST", KEYS, json=body | {"tenant": "no such"}), 422)["errors"]
    theirs = node.request("GET", KEYS, params={"tenant": other_tenant.name}).json()
    assert other_tenant.key_id in [key["id"] for key in theirs]


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"name": ""}, "name"),
        ({"name": "n" * 65}, "name"),
        ({"name": "a\nb"}, "name"),
        ({"name": None}, "name"),
        ({"scopes": []}, "scopes"),
        ({"scopes": None}, "scopes"),
        ({"scopes": "check"}, "scopes"),
        ({"scopes": ["admin"]}, "scopes"),
        ({"scopes": ["check"] * 7}, "scopes"),
        ({"expires_at": "2020-01-01T00:00:00Z"}, "expires_at"),
        ({"expires_at": "0001-01-01T00:00:00"}, "expires_at"),
        ({"expires_at": "9999-12-31T23:59:59-14:00"}, "expires_at"),
        ({"expires_at": "9999-12-31T23:59:59-23:59"}, "expires_at"),
        ({"expires_at": "0001-01-01T00:00:00+23:59"}, "expires_at"),
        ({"expires_at": "tomorrow"}, "expires_at"),
        ({"expires_at": 2_000_000_000}, "expires_at"),
        ({"tenant": ""}, "tenant"),
        ({"key": "rl_x"}, "key"),
        ({"id": "x"}, "id"),
        ({"digest": "x"}, "digest"),
    ],
    ids=str,
)
def test_a_key_that_cannot_be_is_422_and_names_the_field(node: Node, fields: dict[str, Any], field: str) -> None:
    body = {"name": "x", "scopes": ["check"]} | fields
    assert field in problem_of(node.request("POST", KEYS, json=body), 422)["errors"]


@pytest.mark.parametrize("overlap", [-1, 2_592_001, "0", None, 1.5])
def test_an_overlap_is_bounded(node: Node, other_tenant: OtherTenant, overlap: Any) -> None:
    path = f"{KEYS}/{other_tenant.key_id}/rotate"
    assert "overlap_seconds" in problem_of(node.request("POST", path, json={"overlap_seconds": overlap}), 422)["errors"]


@pytest.mark.parametrize("key_id", ["none0000", "%00", "%F0%9F%A6%8A", "x" * 1000, "-"])
def test_an_unknown_key_is_404(node: Node, key_id: str) -> None:
    problem_of(node.request("DELETE", f"{KEYS}/{key_id}"), 404)
    problem_of(node.request("POST", f"{KEYS}/{key_id}/rotate", json={}), 404)


def test_the_audit_names_the_key_that_was_used(node: Node, make_key: MakeKey, client: str) -> None:
    made = make_key("rules:write", name="deploy bot")
    headers = {"X-Correlation-ID": f"deploy-{client}"}
    body = {"client_id": client, "rate": 1, "window": 1}
    node.request("POST", "/v1/admin/rules", key=made["key"], json=body, headers=headers)
    [event] = node.request("GET", "/v1/admin/audit", params={"correlation_id": f"deploy-{client}"}).json()
    assert (event["actor"], event["action"]) == (f"deploy bot ({made['id']})", "rule.create")
    assert (event["before"], event["after"]["client_id"]) == (None, client)


def test_the_time_of_the_last_use_is_written(node: Node, make_key: MakeKey) -> None:
    made = make_key("rules:read")
    assert made["last_used_at"] is None

    def last_used() -> Any:
        return next(key for key in node.request("GET", KEYS).json() if key["id"] == made["id"])["last_used_at"]

    assert last_used() is None
    node.request("GET", "/rules", key=made["key"])
    assert node.eventually(lambda: last_used() is not None, 30)


def test_a_check_with_a_key_is_its_tenants(node: Node, other_tenant: OtherTenant, client: str) -> None:
    made = {"client_id": client, "rate": 3, "window": 3600}
    assert node.request("POST", "/v1/admin/rules", key=other_tenant.key, json=made).status_code == 201
    node.await_rules()
    body = {"client_id": client, "cost": 2}
    theirs = node.request("POST", "/v1/check", key=other_tenant.key, json=body).json()
    assert (theirs["limit"], theirs["remaining"]) == (3, 1)
    assert node.check(client, cost=2)["rule_id"] == "default"
    assert node.check(client, cost=0)["remaining"] == 98
    again = node.request("POST", "/v1/check/batch", key=other_tenant.key, json={"checks": [body]}).json()
    assert json.dumps(again["results"][0]["remaining"]) == "1"


def test_scopes_are_the_contracts() -> None:
    assert SCOPES == ("check", "rules:read", "rules:write", "audit:read", "keys:write", "tenants:write")
