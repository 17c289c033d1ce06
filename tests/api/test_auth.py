"""Keys: what every route of the application asks for, and what it says to whom."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from flask import Flask

from app.api import auth, problems
from devstack import Valkey
from tests.api.conftest import MakeKey
from tests.api.raw_http import problem_of
from tests.support.node import ADMIN_KEY, Node

UNAUTHENTICATED = {"/health", "/livez", "/readyz", "/circuit-breaker-status", "/metrics", "/openapi.json", "/docs"}
DOCS_FILE = "/docs/<asset>"
CHECKS = {"/v1/check", "/v1/check/batch", "/v1/authorize", "/v1/authorize/0"}
LEASE, RETURN = "/v1/leases", "/v1/leases/0/return"
AUTHORIZE_BELOW = "/v1/authorize/<path:limit_key>"
BODIES = {
    "/v1/check": {"client_id": "auth", "cost": 0},
    "/v1/check/batch": {"checks": [{"client_id": "auth", "cost": 0}]},
    LEASE: {"client_id": "auth of leases", "permits": 1},
}


@pytest.fixture(scope="session")
def routes(app: Flask) -> list[tuple[str, str]]:
    """(method, path) of every route, with a number no rule has for each parameter."""
    found = []
    for rule in app.url_map.iter_rules():
        path = app.url_map.bind("limiter.test").build(rule.endpoint, dict.fromkeys(rule.arguments, 0))
        found += [(method, path) for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"})]
    return found


@pytest.fixture(scope="module")
def keyed_node(valkey: Valkey, database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    with Node(
        redis_url=valkey.url,
        database_url=database_url,
        data_dir=tmp_path_factory.mktemp("keyed"),
        REDIS_TIMEOUT_MS=2000,
        WEB_CONCURRENCY=1,
        CHECK_AUTH="required",
    ) as node:
        yield node


def _send(node: Node, method: str, path: str, **headers: str) -> requests.Response:
    return node.request(method, path, key=None, headers=headers, json=BODIES.get(path))


def test_the_application_has_the_routes_that_need_no_key_and_others(routes: list[tuple[str, str]]) -> None:
    paths = {path for _, path in routes}
    assert paths >= UNAUTHENTICATED | CHECKS | {"/rules", "/v1/admin/rules", "/v1/admin/rules/0"}


def test_every_route_states_what_it_asks_for(app: Flask) -> None:
    for rule in app.url_map.iter_rules():
        stated = auth.stated(app, rule.endpoint)
        if rule.rule in UNAUTHENTICATED | {DOCS_FILE}:
            assert stated == auth.PUBLIC, rule
        elif rule.rule in CHECKS | {AUTHORIZE_BELOW}:
            assert stated == auth.IN_HANDLER, rule
        else:
            assert stated in auth.SCOPES, rule


def test_a_route_that_states_nothing_is_refused() -> None:
    """The same gate in front of a route whose author forgot: closed, with every key and none."""
    forgetful = Flask("forgetful")
    problems.init_app(forgetful)
    auth.init_app(forgetful)
    forgetful.add_url_rule("/forgotten", view_func=lambda: "secret")
    answer = forgetful.test_client().get("/forgotten", headers={"X-API-Key": ADMIN_KEY})
    assert (answer.status_code, answer.content_type) == (403, problems.PROBLEM_TYPE)
    assert b"secret" not in answer.data


def test_public_routes_need_no_key_and_mind_none(node: Node) -> None:
    for path in sorted(UNAUTHENTICATED):
        for headers in ({}, {"X-API-Key": "wrong"}, {"Authorization": f"Bearer {ADMIN_KEY}"}):
            assert _send(node, "GET", path, **headers).status_code == 200, path


def test_every_other_route_is_401_without_a_key_and_with_a_wrong_one(node: Node, routes: list[tuple[str, str]]) -> None:
    wrong: list[dict[str, str]] = [
        {"Authorization": "Bearer wrong"},
        {"Authorization": "Bearer "},
        {"Authorization": f"Bearer {ADMIN_KEY}x"},
        {"Authorization": f"Bearer {ADMIN_KEY[:-1]}"},
        {"Authorization": f"Bearer {ADMIN_KEY.upper()}"},
        {"X-API-Key": "wrong"},
        {"X-API-Key": ""},
        {"X-API-Key": "\xff"},
        {"Authorization": "Bearer wrong", "X-API-Key": ADMIN_KEY},
        {"Authorization": f"Bearer {ADMIN_KEY}", "X-API-Key": "wrong"},
        {"Authorization": f"Bearer {ADMIN_KEY}", "X-API-Key": ""},
    ]
    for method, path in routes:
        if path in UNAUTHENTICATED or path.startswith("/docs/"):
            continue
        none = (
            []
            if path in CHECKS | {LEASE, RETURN}
            else [{}, {"Authorization": "Basic eDp5"}, {"Authorization": ADMIN_KEY}]
        )
        for headers in none + wrong:
            answer = _send(node, method, path, **headers)
            problem_of(answer, 401)
            assert answer.headers["WWW-Authenticate"].startswith("Bearer")


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": f"Bearer {ADMIN_KEY}"},
        {"Authorization": f"bearer {ADMIN_KEY}"},
        {"Authorization": f"BEARER   {ADMIN_KEY}"},
        {"X-API-Key": ADMIN_KEY},
        {"x-api-key": ADMIN_KEY, "Authorization": "Basic eDp5"},
        {"X-API-Key": ADMIN_KEY, "Authorization": f"Bearer {ADMIN_KEY}"},
    ],
    ids=str,
)
def test_the_right_key_opens_every_route(node: Node, routes: list[tuple[str, str]], headers: dict[str, str]) -> None:
    for method, path in routes:
        assert _send(node, method, path, **headers).status_code not in (401, 403), (method, path)


def test_of_two_keys_none_counts_though_both_are_right(node: Node, make_key: MakeKey) -> None:
    for path in sorted(CHECKS | {LEASE}):
        both = _send(node, "POST", path, Authorization=f"Bearer {ADMIN_KEY}", **{"X-API-Key": make_key("check")["key"]})
        assert problem_of(both, 401)["detail"] == "two different API keys were sent: send one"


def test_open_checks_need_no_key(node: Node) -> None:
    for path in sorted(CHECKS | {LEASE}):
        assert _send(node, "POST", path).status_code == 200
        assert _send(node, "POST", path, Authorization="Basic eDp5").status_code == 200


def test_required_checks_need_one(keyed_node: Node) -> None:
    for path in sorted(CHECKS | {LEASE}):
        problem_of(_send(keyed_node, "POST", path), 401)
        problem_of(_send(keyed_node, "POST", path, Authorization="Basic eDp5"), 401)
        problem_of(_send(keyed_node, "POST", path, Authorization="Bearer wrong"), 401)
        assert _send(keyed_node, "POST", path, Authorization=f"Bearer {ADMIN_KEY}").status_code == 200


def test_a_refused_key_charges_nothing(keyed_node: Node, client: str) -> None:
    for key in (None, "wrong"):
        keyed_node.request("POST", "/v1/check", key=key, json={"client_id": client, "cost": 50})
    answer = keyed_node.request("POST", "/v1/check", json={"client_id": client, "cost": 0})
    assert answer.json()["remaining"] == 100


def test_a_key_is_never_repeated(node: Node) -> None:
    """Neither in an answer nor in the log."""
    secret = "a-wrong-but-secret-key"
    answers: list[Any] = [
        node.request("GET", "/rules", key=secret),
        node.request("POST", "/v1/check", key=secret, json={"client_id": "x"}),
        node.request("GET", "/rules"),
    ]
    for answer in answers:
        shown = answer.text + json.dumps(dict(answer.headers))
        assert secret not in shown
        assert ADMIN_KEY not in shown
    log = node.log.read_text()
    assert secret not in log
    assert ADMIN_KEY not in log
