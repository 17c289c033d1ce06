"""A primary under three sentinels dies, or is replaced (row 10 of the fault matrix)."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.conftest import StartNode
from tests.support.faults import Figures
from tests.support.load import Load
from tests.support.node import Node
from tests.support.proxy import Proxy
from tests.support.topologies import MASTER, SentinelGroup, eventually, sentinel_group

LIMIT, WORKERS, WIDTH = 100_000, 2, 8
LAG_SECONDS = 0.2
HOUR = {"rate": LIMIT, "window": 3600, "algorithm": "fixed_window", "fail_mode": "local"}
SOON = {"WEB_CONCURRENCY": WORKERS, "REDIS_TIMEOUT_MS": 500, "BREAKER_FAILURES": 3, "BREAKER_RESET_SECONDS": 1}


@pytest.fixture
def group(tmp_path: Path, sockets: Path) -> Iterator[SentinelGroup]:
    with sentinel_group(tmp_path, sockets) as running:
        yield running


def recovered(node: Node, load: Load) -> bool:
    """Whether the last answers, of every worker, are all of Redis."""
    return not any(answer.json()["degraded"] for answer in load.answers[-20 * WIDTH :])


def account(load: Load, node: Node, client: str, until: float, measured: Figures) -> None:
    """What Redis admitted, what it still knows of, and how long checks were degraded from `until` on."""
    admitted = [answer for answer in load.answers if answer.json()["allowed"] and not answer.json()["degraded"]]
    degraded = [answer.began for answer in load.answers if answer.json()["degraded"]]
    measured["admitted per s before"] = sum(until - 1 < answer.began < until for answer in admitted)
    measured["charges lost"] = len(admitted) - (LIMIT - node.check(client, cost=0)["remaining"])
    measured["degraded checks"] = len(degraded)
    measured["the last one after, s"] = round(max(degraded, default=until) - until, 2)
    assert load.errors == []
    assert load.statuses == {200}


@pytest.mark.fault(10, "the primary under three sentinels is killed under load, its replica 200 ms behind; `local`")
def test_a_failover_costs_what_the_replica_had_not_seen(
    group: SentinelGroup, start_node: StartNode, measured: Figures
) -> None:
    """The replica takes over without anybody's help. Lost is at most the rate times the lag; no check fails."""
    node = start_node(group.url, **SOON)
    node.put_rule(client_id="failover", **HOUR)
    with Proxy(group.socket(group.primary)) as between:
        group.ask(group.replica, "REPLICAOF", "127.0.0.1", between.url.rpartition(":")[2].removesuffix("/0"))
        eventually(lambda: "master_link_status:up" in group.ask(group.replica, "INFO", "replication"))
        between.delay_seconds = LAG_SECONDS
        with Load([node], {"client_id": "failover"}, width=WIDTH) as load:
            began = time.monotonic()
            assert node.eventually(lambda: time.monotonic() > began + 1)
            between.reset()
            killed = time.monotonic()
            group.servers[group.primary].kill()
            assert node.eventually(lambda: any(answer.json()["degraded"] for answer in load.answers[-WIDTH:]))
            assert node.eventually(lambda: recovered(node, load), seconds=40)
    account(load, node, "failover", killed, measured)
    measured["rate x lag"] = round(measured["admitted per s before"] * LAG_SECONDS)
    in_a_second = sum(killed - 1 - LAG_SECONDS < answer.began < killed for answer in load.answers)
    assert 0 <= measured["charges lost"] <= in_a_second  # the lag, and a second for a busy machine


@pytest.mark.fault(10, "the same by order (SENTINEL FAILOVER): the old primary lives on as a replica")
def test_an_ordered_failover_is_followed(group: SentinelGroup, start_node: StartNode, measured: Figures) -> None:
    """The node leaves the old primary and finds the new one; no check fails."""
    node = start_node(group.url, **SOON)
    node.put_rule(client_id="ordered", **HOUR)
    with Load([node], {"client_id": "ordered"}, width=WIDTH) as load:
        began = time.monotonic()
        assert node.eventually(lambda: time.monotonic() > began + 1)
        ordered = time.monotonic()
        group.ask(group.sentinels[1], "SENTINEL", "FAILOVER", MASTER)
        eventually(lambda: "user=ratelimiter" not in group.ask(group.primary, "CLIENT", "LIST"))
        measured["followed after, s"] = round(time.monotonic() - ordered, 2)
        assert node.eventually(lambda: recovered(node, load))
    account(load, node, "ordered", ordered, measured)
    assert node.request("GET", "/health", key=None).json()["redis_available"]
    assert node.request("GET", "/circuit-breaker-status", key=None).json()["state"] == "closed"
