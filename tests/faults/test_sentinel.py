"""A primary under three sentinels dies, is replaced, or goes on where nobody sees it (rows 10 and 11 of the matrix)."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis

from app.limiter.redis.sentinel_events import CHANNELS
from tests.faults.conftest import StartNode
from tests.support.acl import PASSWORD
from tests.support.faults import Figures
from tests.support.load import Answer, Load
from tests.support.node import Node
from tests.support.topologies import APART, MASTER, SentinelGroup, eventually, sentinel_group

LIMIT, WORKERS, WIDTH = 100_000, 2, 8
DEAF = "deaf"  # the user as whom one sentinel asks the servers
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


@pytest.mark.parametrize("lag_seconds", [0.2, 2])
@pytest.mark.fault(
    10, "the primary under three sentinels is killed under load, its replica so many seconds behind; `local`"
)
def test_a_failover_costs_what_the_replica_had_not_seen(
    group: SentinelGroup, start_node: StartNode, lag_seconds: float, measured: Figures
) -> None:
    """The replica takes over without anybody's help. Lost is what was admitted within the lag; no check fails."""
    node = start_node(group.url, **SOON | {"BREAKER_RESET_SECONDS": 60})  # a successor is tried before that
    node.put_rule(client_id="failover", **HOUR)
    group.ask(group.replica, "REPLICAOF", "127.0.0.1", group.between.port)
    eventually(lambda: "master_link_status:up" in group.ask(group.replica, "INFO", "replication"))
    group.between.delay_seconds = lag_seconds
    with Load([node], {"client_id": "failover"}, width=WIDTH) as load:
        began = time.monotonic()
        assert node.eventually(lambda: time.monotonic() > began + lag_seconds + 1)
        group.between.reset()
        killed = time.monotonic()
        group.servers[group.primary].kill()
        assert node.eventually(lambda: any(answer.json()["degraded"] for answer in load.answers[-WIDTH:]))
        assert node.eventually(lambda: recovered(node, load), seconds=40)
    account(load, node, "failover", killed, measured)
    measured["rate x lag"] = round(measured["admitted per s before"] * lag_seconds)
    in_a_second = sum(killed - 1 - lag_seconds < answer.began < killed for answer in load.answers)
    assert 0 <= measured["charges lost"] <= in_a_second  # the lag, and a second for a busy machine
    assert lag_seconds < 1 or measured["charges lost"] > 0  # else it was not behind


@pytest.mark.fault(10, "the same by order (SENTINEL FAILOVER): the old primary lives on as a replica")
def test_an_ordered_failover_is_followed(group: SentinelGroup, start_node: StartNode, measured: Figures) -> None:
    """The node leaves the old primary and finds the new primary; no check fails.

    Its workers listen to the sentinels, so that it leaves as soon as one names the new primary. An open breaker would
    wait for a minute, and does not.
    """
    node = start_node(group.url, WEB_CONCURRENCY=WORKERS, BREAKER_FAILURES=1, BREAKER_RESET_SECONDS=60)
    node.put_rule(client_id="ordered", **HOUR)
    with Load([node], {"client_id": "ordered"}, width=WIDTH) as load:
        eventually(lambda: all(listeners(group, sentinel) >= WORKERS for sentinel in group.sentinels))
        began = time.monotonic()
        assert node.eventually(lambda: time.monotonic() > began + 1)
        ordered = time.monotonic()
        group.ask(group.sentinels[1], "SENTINEL", "FAILOVER", MASTER)
        eventually(lambda: group.named_by(group.sentinels[1]) == group.replica)
        named = time.monotonic()
        eventually(lambda: "user=ratelimiter" not in group.ask(group.primary, "CLIENT", "LIST"))
        measured["followed after, s"] = round(time.monotonic() - ordered, 2)
        measured["after it was named, s"] = round(time.monotonic() - named, 2)
        assert node.eventually(lambda: recovered(node, load))
    account(load, node, "ordered", ordered, measured)
    assert node.request("GET", "/health", key=None).json()["redis_available"]
    assert node.request("GET", "/circuit-breaker-status", key=None).json()["state"] == "closed"


def listeners(group: SentinelGroup, sentinel: int) -> int:
    """How many connections this sentinel will tell of a failover: one of each worker, then one of its other store."""
    return sum(f" sub={len(CHANNELS)} " in line for line in group.ask(sentinel, "CLIENT", "LIST").splitlines())


def both(answers: list[Answer]) -> list[list[Answer]]:
    """Those of the first node, and those of the second."""
    return [[answer for answer in list(answers) if answer.caller // WIDTH == node] for node in (0, 1)]


def degraded(answers: list[Answer]) -> list[bool]:
    return [answer.json()["degraded"] for answer in answers]


@contextmanager
def parted(group: SentinelGroup) -> Iterator[None]:
    """Nothing passes between the primary and the replica and sentinels, nor between the doors and nodes."""
    group.between.cut_off = frozenset({APART})
    for door in group.doors:
        door.cut_off = frozenset({"127.0.0.1"})
    yield
    for proxy in (group.between, *group.doors):
        proxy.heal()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has several addresses of the loopback")
@pytest.mark.fault(
    11,
    "a primary and one of two nodes are cut off from its replica and the sentinels; min-replicas-max-lag 2; `local`",
)
def test_a_primary_that_nobody_sees_soon_stops_to_take_charges(
    tmp_path: Path, sockets: Path, start_node: StartNode, measured: Figures
) -> None:
    """The replica takes over. The old primary accepts charges for at most `min-replicas-max-lag`; these are lost. Then
    `fail_mode` decides, until the node reaches the sentinels and follows the new primary. No check fails.
    """
    with sentinel_group(tmp_path, sockets, apart=True) as group:
        doors = ",".join(f"127.0.0.1:{door.port}" for door in group.doors)
        nodes = [
            start_node(url, **SOON) for url in (group.url, f"redis+sentinel://ratelimiter:{PASSWORD}@{doors}/{MASTER}")
        ]
        nodes[0].put_rule(client_id="split", **HOUR)
        nodes[1].await_rules(nodes[0])
        group.ask(group.primary, "CONFIG", "SET", "min-replicas-to-write", 1, "min-replicas-max-lag", 2)
        with Load(nodes, {"client_id": "split"}, width=WIDTH) as load:
            assert nodes[0].eventually(lambda: min(map(len, both(load.answers))) > 100)
            with parted(group):
                began = time.monotonic()
                eventually(lambda: group.ask(group.replica, "ROLE")[0] == "master")
                assert nodes[1].eventually(lambda: all(degraded(both(load.answers[-20 * WIDTH :])[1][-WIDTH:])))
                assert nodes[0].eventually(lambda: not any(degraded(both(load.answers[-20 * WIDTH :])[0])))
            healed = time.monotonic()
            assert nodes[1].eventually(lambda: not any(degraded(load.answers[-40 * WIDTH :])), seconds=40)
            measured["followed after the split, s"] = round(time.monotonic() - healed, 1)
        remaining = nodes[0].check("split", cost=0)["remaining"]
    late = [answer for answer in both(load.answers)[1] if began < answer.began < healed and not degraded([answer])[0]]
    last = max([began, *(answer.began for answer in late)])
    measured["charges of the old primary meanwhile"] = len(late)
    measured["the last one after, s"] = round(last - began, 2)
    taken = sum(answer.json()["allowed"] and not answer.json()["degraded"] for answer in load.answers)
    measured["charges lost"] = taken - (LIMIT - remaining)
    measured["checks"] = len(load.answers)
    assert load.errors == []
    assert load.statuses == {200}
    # Nothing but what was on its way to the replica, and what the old primary took until it stopped.
    assert measured["charges lost"] <= sum(began - 1 < answer.began <= last for answer in load.answers)


def make_stale(group: SentinelGroup, sentinel: int) -> None:
    """From now on it hears nothing: not from other sentinels, nor over primary and replica, which let it do nothing."""
    group.ask(sentinel, "ACL", "SETUSER", "default", "-publish")
    for option in ("auth-user", "auth-pass"):
        group.ask(sentinel, "SENTINEL", "SET", MASTER, option, DEAF)
    for server in (group.primary, group.replica):
        group.ask(server, "ACL", "SETUSER", DEAF, "on", "nopass", "-@all")
        for kind in ("normal", "pubsub"):
            group.ask(server, "CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")


@pytest.mark.fault(
    11, "one of three sentinels still names the primary of before, which never hears that it was replaced; `closed`"
)
def test_a_stale_sentinel_is_outvoted(group: SentinelGroup, start_node: StartNode, measured: Figures) -> None:
    """Nodes that ask it first count together with the others: the limit is admitted once."""
    limit, (first, *others) = 30, group.sentinels
    make_stale(group, first)
    group.ask(group.primary, "ACL", "SETUSER", "default", "-replicaof", "-slaveof")
    eventually(lambda: takes_order(group, others[0]))
    for sentinel in others:
        eventually(lambda sentinel=sentinel: group.named_by(sentinel) == group.replica)
    assert group.named_by(first) == group.primary
    assert [group.ask(server, "ROLE")[0] for server in (group.primary, group.replica)] == ["master"] * 2
    without_it = group.url.replace(f"127.0.0.1:{first},", "")
    nodes = [start_node(url, FAIL_MODE="closed") for url in (group.url, without_it)]
    nodes[0].put_rule(client_id="outvoted", rate=limit, window=3600, algorithm="fixed_window")
    nodes[1].await_rules(nodes[0])
    for node in nodes:  # every worker has asked, and so has looked for the primary
        assert node.eventually(lambda node=node: all(healthy(node) for _ in range(8)))
    eventually(lambda: "user=ratelimiter" not in group.ask(group.primary, "CLIENT", "LIST"))
    decisions = [node.check("outvoted") for node in nodes for _ in range(limit)]
    measured["limit"], measured["admitted"] = limit, sum(decision["allowed"] for decision in decisions)
    assert measured["admitted"] == limit
    assert [node.request("GET", "/health", key=None).json()["status"] for node in nodes] == ["healthy"] * 2


def healthy(node: Node) -> bool:
    return bool(node.request("GET", "/health", key=None).json()["status"] == "healthy")


def takes_order(group: SentinelGroup, sentinel: int) -> bool:
    """To fail over, which a sentinel refuses while it is still connecting."""
    try:
        return bool(group.ask(sentinel, "SENTINEL", "FAILOVER", MASTER) == "OK")
    except redis.ResponseError:
        return False
