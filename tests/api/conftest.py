"""What the tests of the HTTP interface share."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import psycopg2
import pytest
from flask import Flask

from app import create_app
from app.config import Settings
from app.limiter.keys import Keyspace
from app.rules.api_key import SCOPES
from devstack import Valkey
from tests.support.node import Node

PutRules = Callable[..., list[dict[str, Any]]]
MakeKey = Callable[..., dict[str, Any]]


class OtherTenant(NamedTuple):
    id: int
    name: str
    key_id: str
    key: str


@pytest.fixture
def client() -> str:
    """A client id of the test's own: no other test spends its quota."""
    return f"client-{uuid4().hex[:12]}"


@pytest.fixture(scope="session")
def keyspace(database_url: str) -> Keyspace:
    """Spells keys as the shared node does."""
    with contextlib.closing(psycopg2.connect(database_url)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT key_secret FROM rule_book")
        [secret] = cursor.fetchone()
    return Keyspace(bytes.fromhex(secret))


@pytest.fixture(scope="session")
def put_rules(node: Node) -> PutRules:
    """Stores rules on the shared node, and waits once until every worker decides by them."""

    def put(*rules: dict[str, Any]) -> list[dict[str, Any]]:
        answers = [node.request("POST", "/v1/admin/rules", json=rule) for rule in rules]
        assert {answer.status_code for answer in answers} <= {200, 201}, [answer.text for answer in answers]
        node.await_rules()
        return [answer.json() for answer in answers]

    return put


@pytest.fixture(scope="session")
def make_key(node: Node) -> MakeKey:
    """Makes a key on the shared node, and waits until every worker knows it. The answer, with the key in it."""

    def make(*scopes: str, tenant: str = "default", **fields: Any) -> dict[str, Any]:
        body = {"tenant": tenant, "name": "test", "scopes": list(scopes)} | fields
        answer = node.request("POST", "/v1/admin/api-keys", json=body)
        assert answer.status_code == 201, answer.text
        node.await_rules()
        made: dict[str, Any] = answer.json()
        return made

    return make


@pytest.fixture(scope="session")
def make_tenant(node: Node, make_key: MakeKey) -> Callable[[], OtherTenant]:
    """Makes a tenant, with a key for everything but other tenants."""

    def make() -> OtherTenant:
        tenant = node.request("POST", "/v1/admin/tenants", json={"name": f"other-{uuid4().hex[:8]}"}).json()
        made = make_key(*(scope for scope in SCOPES if scope != "tenants:write"), tenant=tenant["name"])
        return OtherTenant(tenant["id"], tenant["name"], made["id"], made["key"])

    return make


@pytest.fixture(scope="session")
def other_tenant(make_tenant: Callable[[], OtherTenant]) -> OtherTenant:
    """A second tenant, with a key for everything but other tenants."""
    return make_tenant()


@pytest.fixture(scope="session")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flask]:
    """The application of this source tree, for looking at its routes. It is connected to nothing.

    Without request metrics: those are registered once in a process, and other tests may make an application too.
    """
    handlers, level = logging.root.handlers[:], logging.root.level
    with pytest.MonkeyPatch.context() as environment:
        environment.chdir(tmp_path_factory.mktemp("app"))
        environment.setenv("DATABASE_URL", "postgresql://nobody@127.0.0.1:1/none")
        environment.setenv("ENABLE_METRICS", "false")
        environment.setenv("LOG_LEVEL", "CRITICAL")
        environment.setenv("DATA_DIR", str(Path.cwd()))
        yield create_app(Settings.from_env())
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)


@pytest.fixture(scope="module")
def own_node(
    request: pytest.FixtureRequest,
    valkey: Valkey,
    new_database: Callable[[str], str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Node]:
    """A node of one worker whose database has only the rules of this file, with the file's SETTINGS."""
    with Node(
        redis_url=valkey.url,
        database_url=new_database(request.module.__name__),
        data_dir=tmp_path_factory.mktemp("own"),
        **{"REDIS_TIMEOUT_MS": 2000, "WEB_CONCURRENCY": 1} | getattr(request.module, "SETTINGS", {}),
    ) as node:
        yield node
