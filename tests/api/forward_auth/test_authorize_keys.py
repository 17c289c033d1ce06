"""/v1/authorize where clients have keys: one tenant's keys and rules, and a holder who stays one client."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from app.api.auth import Authenticator, Credentials
from app.api.check.encoding import Encoder
from app.api.check.handler import Request
from app.api.forward_auth.authorizer import Authorizer
from app.api.forward_auth.identity import ClientIdentifier
from app.api.problems import Problem
from app.limiter.store import RuleSource
from app.rules.rule import default_rule
from app.rules.rule_book import RuleBook, Snapshot
from devstack import Valkey
from tests.api.conftest import MakeKey, OtherTenant, PutRules
from tests.api.raw_http import problem_of
from tests.support.node import Node

KEYS = "/v1/admin/api-keys"
LIMIT = 3


def authorize(node: Node, key: str | None, limit_key: str = "global") -> Any:
    return node.request("GET", "/v1/authorize", key=key, params={"limit_key": limit_key})


def admitted(node: Node, keys: list[str], limit_key: str) -> int:
    return sum(authorize(node, key, limit_key).status_code == 200 for key in keys)


@pytest.fixture(scope="module")
def limited(put_rules: PutRules) -> str:
    """A `limit_key` under which every key may ask LIMIT times an hour."""
    rule = {"client_id": "key:*", "endpoint": "by key", "rate": LIMIT, "window": 3600, "algorithm": "fixed_window"}
    put_rules(rule)
    return "by key"


def mint(node: Node, maker: str, *scopes: str) -> dict[str, Any]:
    answer = node.request("POST", KEYS, key=maker, json={"name": "minted", "scopes": list(scopes)})
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


def test_a_key_that_makes_keys_stays_one_client(node: Node, make_key: MakeKey, limited: str) -> None:
    maker = make_key("check", "keys:write", name="maker")
    minted = [mint(node, maker["key"], "check", "keys:write") for _ in range(4)]
    minted += [mint(node, minted[0]["key"], "check")]
    rotated = node.request("POST", f"{KEYS}/{minted[-1]['id']}/rotate", key=maker["key"], json={}).json()
    node.await_rules()
    every = [maker, *minted, rotated]
    assert {key["owner"] for key in every} == {f"maker ({maker['id']})"}
    assert admitted(node, [key["key"] for key in every] * 3, limited) == LIMIT


def test_a_rotated_key_is_the_same_client(node: Node, make_key: MakeKey, limited: str) -> None:
    first = make_key("check", name="rotated")
    second = node.request("POST", f"{KEYS}/{first['id']}/rotate", json={}).json()
    third = node.request("POST", f"{KEYS}/{second['id']}/rotate", json={"overlap_seconds": 0}).json()
    node.await_rules()
    assert third["owner"] == f"rotated ({first['id']})"
    assert admitted(node, [first["key"], third["key"]] * LIMIT, limited) == LIMIT


def test_keys_that_an_operator_makes_are_clients_of_their_own(node: Node, make_key: MakeKey, limited: str) -> None:
    """And those of a key that may write rules, which could lift any limit."""
    operator = make_key("check", "keys:write", "rules:write")
    keys = [make_key("check")["key"], mint(node, operator["key"], "check")["key"]]
    node.await_rules()
    assert [admitted(node, [key] * (LIMIT + 1), limited) for key in keys] == [LIMIT, LIMIT]


def test_another_tenants_key_passes_nobody_by_its_own_rules(node: Node, other_tenant: OtherTenant) -> None:
    allow = {"client_id": "*", "action": "allow", "endpoint": "door"}
    assert node.request("POST", "/v1/admin/rules", key=other_tenant.key, json=allow).status_code == 201
    node.await_rules()
    problem = problem_of(authorize(node, other_tenant.key, "door"), 403)
    assert other_tenant.name not in problem["detail"]
    assert node.request("POST", "/v1/authorize/door", key=other_tenant.key).status_code == 403
    body = {"client_id": "x", "limit_key": "door"}
    assert node.request("POST", "/v1/check", key=other_tenant.key, json=body).json()["reason"] == "allowed_by_rule"


@pytest.fixture(scope="module")
def bound(
    valkey: Valkey, database_url: str, other_tenant: OtherTenant, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Node]:
    """A node whose forward-auth is the other tenant's."""
    with Node(
        redis_url=valkey.url,
        database_url=database_url,
        data_dir=tmp_path_factory.mktemp("bound"),
        AUTHORIZE_TENANT=other_tenant.name,
        REDIS_TIMEOUT_MS=2000,
        WEB_CONCURRENCY=1,
    ) as node:
        yield node


def test_the_named_tenants_rules_and_keys_hold_for_everybody(
    node: Node, bound: Node, make_key: MakeKey, other_tenant: OtherTenant
) -> None:
    for client_id, rate in (("ip:127.0.0.1", 5), ("key:*", 7)):
        rule = {"client_id": client_id, "endpoint": "bound", "rate": rate, "window": 3600}
        assert node.request("POST", "/v1/admin/rules", key=other_tenant.key, json=rule).status_code == 201
    foreign = make_key("check")["key"]
    bound.await_rules(node)
    for method in ("GET", "POST"):  # by each door
        answers = [
            bound.request(
                method, "/v1/authorize/bound" if method == "POST" else "/v1/authorize?limit_key=bound", key=key
            )
            for key in (None, other_tenant.key)
        ]
        assert [(answer.status_code, answer.json()["limit"]) for answer in answers] == [(200, 5), (200, 7)]
    problem_of(authorize(bound, foreign), 403)
    assert bound.request("GET", "/v1/authorize").status_code == 403  # the bootstrap key is the default tenant's
    assert bound.check("ip:127.0.0.1", "bound", cost=0)["rule_id"] == "default"  # checks are as ever


@pytest.mark.parametrize("book", [None, RuleBook(Snapshot(1, b"", ()), default=default_rule(1, 1), algorithm="gcra")])
def test_a_tenant_that_is_not_there_lets_nobody_pass(book: RuleBook | None, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("WARNING", "app.api.forward_auth.authorizer")
    rules: RuleSource = SimpleNamespace(book=book)
    authenticator = Authenticator(
        bootstrap_key=None, open_checks=True, rules=rules, used=lambda _: None, clock=lambda: 0.0
    )
    identifier = ClientIdentifier(by="address", trusted="")
    authorizer = Authorizer(
        authenticator=authenticator, identifier=identifier, rules=rules, tenant="none", encoder=Encoder("off", 60)
    )
    for _ in range(3):
        with pytest.raises(Problem, match="AUTHORIZE_TENANT") as refused:
            authorizer.with_check(Request(b"", Credentials(), "x"), "global", 1, peer="127.0.0.1", header={}.get)
        assert refused.value.status == 503
    assert len(caplog.messages) == 1  # not one for each caller
