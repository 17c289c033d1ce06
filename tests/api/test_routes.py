"""Every route x every kind of caller: who is let in, and who learns nothing."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import pytest
from flask import Flask

from tests.api.conftest import MakeKey, OtherTenant
from tests.support.node import Node

PUBLIC = "public"
OPEN = "check"  # needs no key while CHECK_AUTH is open; a key that is sent is verified


class Route(NamedTuple):
    """`entitled`: the status for another tenant's key with every scope but tenants:write, asking about tenant 1."""

    method: str
    path: str
    scope: str
    entitled: int
    body: Any = None


RULE = {"client_id": "table", "rate": 1, "window": 1}
ROUTES = [
    Route("GET", "/health", PUBLIC, 200),
    Route("GET", "/livez", PUBLIC, 200),
    Route("GET", "/readyz", PUBLIC, 200),
    Route("GET", "/circuit-breaker-status", PUBLIC, 200),
    Route("GET", "/metrics", PUBLIC, 200),
    Route("GET", "/openapi.json", PUBLIC, 200),
    Route("GET", "/docs", PUBLIC, 200),
    Route("GET", "/docs/{asset}", PUBLIC, 200),
    Route("POST", "/v1/check", OPEN, 200, {"client_id": "table", "cost": 0}),
    Route("POST", "/v1/check/batch", OPEN, 200, {"checks": [{"client_id": "table", "cost": 0}]}),
    Route("GET", "/v1/authorize?limit_key=table", OPEN, 403),
    Route("GET", "/v1/authorize/{limit_key}", OPEN, 403),
    Route("POST", "/v1/leases", OPEN, 200, {"client_id": "table", "permits": 1}),
    Route("POST", "/v1/leases/{lease_id}/return", OPEN, 404, {"unused": 0}),
    Route("GET", "/rules", "rules:read", 200),
    Route("GET", "/v1/admin/rules", "rules:read", 200),
    Route("POST", "/v1/admin/rules", "rules:write", 422, {}),
    Route("GET", "/v1/admin/rules/{rule_id}", "rules:read", 404),
    Route("PUT", "/v1/admin/rules/{rule_id}", "rules:write", 404, RULE),
    Route("PATCH", "/v1/admin/rules/{rule_id}", "rules:write", 404, {"rate": 2}),
    Route("DELETE", "/v1/admin/rules/{rule_id}", "rules:write", 404),
    Route("GET", "/v1/admin/rules/{rule_id}/versions", "rules:read", 404),
    Route("POST", "/v1/admin/rules/{rule_id}/rollback", "rules:write", 404, {"version": 1}),
    Route("POST", "/v1/admin/rules/{rule_id}/promote", "rules:write", 404),
    Route("POST", "/v1/admin/rules/block", "rules:write", 422, {}),
    Route("POST", "/v1/admin/rules/unblock", "rules:write", 200, {"client_id": "table"}),
    Route("GET", "/v1/admin/templates", "rules:read", 200),
    Route("POST", "/v1/admin/templates", "rules:write", 422, {}),
    Route("DELETE", "/v1/admin/templates/{name}", "rules:write", 404),
    Route("POST", "/v1/admin/templates/{name}/apply", "rules:write", 404, {"client_id": "table"}),
    Route("GET", "/v1/admin/export", "rules:read", 200),
    Route("POST", "/v1/admin/import?dry_run=true", "rules:write", 200, {"rules": []}),
    Route("GET", "/v1/admin/explain?client_id=table", "rules:read", 200),
    Route("GET", "/v1/admin/counters?client_id=table", "rules:read", 200),
    Route("GET", "/v1/admin/limited", "rules:read", 200),
    Route("POST", "/v1/admin/counters/reset", "rules:write", 204, {"client_id": "table"}),
    Route("GET", "/v1/admin/audit", "audit:read", 200),
    Route("GET", "/v1/admin/tenants", "tenants:write", 403),
    Route("POST", "/v1/admin/tenants", "tenants:write", 403, {"name": "table"}),
    Route("DELETE", "/v1/admin/tenants/{tenant_id}", "tenants:write", 403),
    Route("GET", "/v1/admin/api-keys", "keys:write", 200),
    Route("POST", "/v1/admin/api-keys", "keys:write", 403, {"tenant": "default", "name": "x", "scopes": ["check"]}),
    Route("DELETE", "/v1/admin/api-keys/{key_id}", "keys:write", 404),
    Route("POST", "/v1/admin/api-keys/{key_id}/rotate", "keys:write", 404, {}),
]


@pytest.fixture(scope="module")
def names(node: Node, make_key: MakeKey) -> dict[str, Any]:
    """Things of the default tenant, for the places in the paths."""
    rule = node.put_rule(client_id="table-rule", rate=1, window=1)
    node.request("POST", "/v1/admin/templates", json={"name": "table", "rate": 1, "window": 1})
    return {
        "rule_id": rule["id"],
        "tenant_id": 1,
        "key_id": make_key("check")["id"],
        "name": "table",
        "asset": "swagger-ui.css",
        "limit_key": "table",
        "lease_id": node.request("POST", "/v1/leases", json={"client_id": "table", "permits": 1}).json()["lease_id"],
    }


@pytest.fixture(scope="module")
def scopeless(make_key: MakeKey) -> dict[str, str]:
    """A key for each scope that has every scope but this one."""
    scopes = sorted({route.scope for route in ROUTES} - {PUBLIC})
    return {lacking: make_key(*(scope for scope in scopes if scope != lacking))["key"] for lacking in scopes}


def test_the_table_has_every_route(app: Flask) -> None:
    routes = {
        (method, re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule))
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    assert {(route.method, route.path.partition("?")[0]) for route in ROUTES} == routes


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
def test_each_caller_gets_the_status_he_should(
    node: Node, names: dict[str, Any], scopeless: dict[str, str], other_tenant: OtherTenant, route: Route
) -> None:
    def status(key: str | None) -> int:
        path = route.path.format(**names)
        return node.request(route.method, path, key=key, json=route.body).status_code

    statuses = {
        "no key": status(None),
        "wrong key": status("wrong"),
        "nearly right key": status(other_tenant.key[:-1] + "~"),
        "other tenant": status(other_tenant.key),
        "without the scope": status(scopeless.get(route.scope, "any")),
    }
    public = route.scope == PUBLIC
    assert statuses == {
        "no key": 200 if public or route.scope == OPEN else 401,
        "wrong key": 200 if public else 401,
        "nearly right key": 200 if public else 401,
        "other tenant": route.entitled,
        "without the scope": 200 if public else 403,
    }
    for gone in ("rule_id", "key_id"):  # nothing of the default tenant was touched on the way
        if gone in route.path:
            place = "rules" if gone == "rule_id" else "api-keys"
            listed = node.request("GET", f"/v1/admin/{place}").json()
            assert names[gone] in [each["id"] for each in listed]


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
def test_no_browser_guesses_what_an_answer_is(node: Node, names: dict[str, Any], route: Route) -> None:
    """But of checks, which programs read."""
    answer = node.request(route.method, route.path.format(**names), key="wrong", json=route.body)
    checks = route.path.startswith(("/v1/check", "/v1/authorize"))
    assert answer.headers.get("X-Content-Type-Options") == (None if checks else "nosniff")


def test_what_is_not_there_is_not_guessed_either(node: Node) -> None:
    for method, path, status in (("GET", "/none", 404), ("GET", "/v1/check", 405), ("PUT", "/rules", 405)):
        answer = node.request(method, path)
        assert (answer.status_code, answer.headers["X-Content-Type-Options"]) == (status, "nosniff")
