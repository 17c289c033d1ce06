"""The node that is attacked: two workers and a Redis of its own, with the settings that a deployment has."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from devstack import Valkey
from tests.support.node import Node
from tests.support.starved import goes_first

MakeKey = Callable[..., str]


@pytest.fixture(scope="package")
def redis_server(tmp_path_factory: pytest.TempPathFactory, sockets: Path) -> Iterator[Valkey]:
    own = sockets / secrets.token_hex(4)
    own.mkdir()
    with Valkey(data_dir=tmp_path_factory.mktemp("attacked") / "valkey", socket_dir=own, durable=False) as server:
        yield server


@pytest.fixture(scope="package")
def rules_database(new_database: Callable[[str], str]) -> str:
    return new_database("attacked")


@pytest.fixture(scope="package")
def attacked(redis_server: Valkey, rules_database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """One for all attacks, so that they meet what the others left. Its breaker closes again after a second.

    Redis goes first on the machine, so that it is never silent for want of a processor; else it has longer.
    """
    node = Node(
        redis_url=redis_server.url,
        database_url=rules_database,
        data_dir=tmp_path_factory.mktemp("attacked"),
        BREAKER_RESET_SECONDS=1,
        REDIS_TIMEOUT_MS=50 if goes_first(redis_server.pid) else 500,
    )
    with node as running:
        assert running.eventually(lambda: len(running.workers) == 2)
        yield running


@pytest.fixture(scope="package")
def make_key(attacked: Node) -> MakeKey:
    """Makes a tenant where it does not exist, and a key of it that every worker knows."""

    def make(tenant: str, *scopes: str) -> str:
        attacked.request("POST", "/v1/admin/tenants", json={"name": tenant})
        body = {"tenant": tenant, "name": "test", "scopes": list(scopes)}
        answer = attacked.request("POST", "/v1/admin/api-keys", json=body)
        assert answer.status_code == 201, answer.text
        attacked.await_rules()
        key: str = answer.json()["key"]
        return key

    return make


def openings(node: Node) -> int:
    """How often its breaker has opened so far."""
    return node.log.read_text().count("closed -> open")
