"""What outlives a node, and what a node does while one of its servers is away."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from devstack import Postgres, Valkey
from tests.conftest import flask
from tests.support.node import Node


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory, sockets: Path) -> Iterator[tuple[Valkey, Postgres]]:
    """Servers of this module's own, to stop and to start."""
    own = sockets / "restart"
    own.mkdir()
    home = tmp_path_factory.mktemp("servers")
    with (
        Valkey(data_dir=home / "valkey", socket_dir=own) as valkey,
        Postgres(data_dir=home / "postgres", socket_dir=own, durable=False) as postgres,
    ):
        flask("db", "upgrade", database_url=postgres.url)
        yield valkey, postgres


@pytest.fixture
def node(servers: tuple[Valkey, Postgres], tmp_path: Path) -> Iterator[Node]:
    valkey, postgres = servers
    with Node(redis_url=valkey.url, database_url=postgres.url, data_dir=tmp_path, BREAKER_RESET_SECONDS=1) as running:
        yield running


def test_a_restart_of_everything_keeps_rules_and_counters(node: Node, servers: tuple[Valkey, Postgres]) -> None:
    node.put_rule(client_id="kept", rate=5, window=3600, algorithm="fixed_window")
    assert node.check("kept", cost=3)["remaining"] == 2
    node.stop()
    for server in servers:
        server.stop()
        server.start()
    node.start()
    decision = node.check("kept", cost=0)
    assert (decision["remaining"], decision["limit"], decision["window"]) == (2, 5, 3600)


def test_while_redis_is_away_checks_go_on_and_it_is_found_again(node: Node, servers: tuple[Valkey, Postgres]) -> None:
    valkey, _ = servers
    node.put_rule(client_id="strict", rate=5, window=3600, fail_mode="closed")
    valkey.stop()
    decision = node.check("anyone")
    assert (decision["allowed"], decision["degraded"], decision["reason"]) == (True, True, "degraded")
    refused = node.request("POST", "/v1/check", key=None, json={"client_id": "strict"})
    assert refused.status_code == 503
    assert int(refused.headers["Retry-After"]) >= 1
    assert refused.headers["Content-Type"] == "application/problem+json"
    health = node.request("GET", "/health").json()
    assert (health["status"], health["redis_available"]) == ("degraded", False)
    assert node.request("GET", "/readyz").status_code == 200
    valkey.start()
    assert node.eventually(lambda: not node.check("anyone")["degraded"])
    assert node.eventually(lambda: node.request("GET", "/health").json()["status"] == "healthy")
    assert node.metric('ratelimiter_degraded_total{mode="closed"}') >= 1
    assert node.metric('ratelimiter_redis_errors_total{operation="check"}') >= 1


def test_while_the_database_is_away_the_last_good_rules_decide(node: Node, servers: tuple[Valkey, Postgres]) -> None:
    _, postgres = servers
    node.put_rule(client_id="remembered", rate=3, window=3600)
    postgres.stop()
    try:
        assert node.eventually(lambda: not node.request("GET", "/health").json()["database_available"])
        assert node.check("remembered")["limit"] == 3
        assert node.request("GET", "/v1/admin/rules").status_code == 503
        node.stop()
        node.start()  # from the rules saved on disk
        assert node.check("remembered")["limit"] == 3
        assert node.request("GET", "/readyz").status_code == 200
    finally:
        postgres.start()
    assert node.eventually(lambda: node.request("GET", "/health").json()["database_available"])
    node.put_rule(client_id="remembered", rate=4, window=3600)
    assert node.check("remembered")["limit"] == 4


def test_sigterm_drains_and_leaves_nothing_behind(servers: tuple[Valkey, Postgres], tmp_path: Path) -> None:
    valkey, postgres = servers
    node = Node(redis_url=valkey.url, database_url=postgres.url, data_dir=tmp_path, DRAIN_SECONDS=1)
    with node:
        workers = node.workers
        os.kill(node.pid, signal.SIGTERM)
        assert node.eventually(lambda: node.request("GET", "/readyz").status_code == 503)
        assert node.check("last")["allowed"]  # it still answers
        node.stop(signal.SIGCONT)  # nothing more than to wait for its end
    assert not any(Path(f"/proc/{pid}").exists() for pid in workers)
