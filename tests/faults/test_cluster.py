"""A cluster of three primaries and three replicas: exact, while a primary dies and while slots move (rows 10, 33)."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from app.limiter.keys import Keyspace, slot
from tests.faults.conftest import Sql, StartNode
from tests.support.burst import Burst
from tests.support.faults import ALL, Figures
from tests.support.load import Answer, Load, percentile
from tests.support.node import Node
from tests.support.partitions import PartedCluster
from tests.support.topologies import ClusterGroup, cluster_group, eventually

LIMIT, WORKERS, CALLERS = 100_000, 2, 6
HOUR = {"rate": LIMIT, "window": 3600, "algorithm": "fixed_window", "fail_mode": "local"}
SOON = {"WEB_CONCURRENCY": WORKERS, "REDIS_TIMEOUT_MS": 500, "BREAKER_FAILURES": 3}
MOVES = 60 if ALL else 18
STATUS = "/circuit-breaker-status"

SlotOf = Callable[[str], int]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, sockets: Path) -> Iterator[ClusterGroup]:
    with cluster_group(tmp_path_factory.mktemp("cluster"), sockets) as running:
        yield running


@pytest.fixture
def slot_of(sql: Sql) -> SlotOf:
    """Where the counters of a client are."""
    [[secret]] = sql("SELECT key_secret FROM rule_book")
    keyspace = Keyspace(bytes.fromhex(secret))
    return lambda client_id: slot(keyspace.client(1, client_id))


@pytest.mark.fault(1, "none, on a cluster: 100 checks at once of each of 30 clients in all its parts, 2 nodes")
def test_each_client_gets_exactly_his_limit(
    cluster: ClusterGroup, start_node: StartNode, slot_of: SlotOf, measured: Figures
) -> None:
    """Exactly the limit is admitted; a batch with clients of all primaries is answered in its order."""
    limit, clients = 30, [f"exact {number}" for number in range(30)]
    nodes = [start_node(cluster.url), start_node(cluster.url)]
    nodes[0].put_rule(client_id="exact *", **HOUR | {"rate": limit})
    nodes[1].await_rules(nodes[0])
    assert {cluster.owner(slot_of(client)) for client in clients} == set(cluster.primaries)
    with Burst(nodes[0].port, 50) as here, Burst(nodes[1].port, 50) as there:
        for client in clients:
            decisions = here.check(client_id=client) + there.check(client_id=client)
            assert not any(decision["degraded"] for decision in decisions)
            assert sum(decision["allowed"] for decision in decisions) == limit
    batch = [{"client_id": f"exact batch {number}", "cost": number % limit} for number in range(300)]
    answer = nodes[0].request("POST", "/v1/check/batch", key=None, json={"checks": batch}).json()
    assert [result["remaining"] for result in answer["results"]] == [limit - check["cost"] for check in batch]
    measured["clients"], measured["too many or too few"] = len(clients), 0


@pytest.mark.parametrize("kind", ["one limit", "several limits and a request_id"])
@pytest.mark.fault(33, f"{MOVES} slots with live counters move to other primaries, key by key, under load; `local`")
def test_resharding_charges_every_check_once(
    cluster: ClusterGroup, start_node: StartNode, slot_of: SlotOf, kind: str, measured: Figures
) -> None:
    """No check fails, none is charged twice or lost. No check of one key is degraded. Checks of several keys degrade
    while only some of these keys have moved (TRYAGAIN).
    """
    several, numbers = kind != "one limit", itertools.count()
    node = start_node(cluster.url, **SOON | {"REDIS_TIMEOUT_MS": 5000})
    limits = [{"rate": LIMIT * times, "window": 3600 * times, "algorithm": "fixed_window"} for times in (1, 2)]
    node.put_rule(client_id=f"{kind} *", fail_mode="local", limits=limits[: 1 + several])
    clients = [f"{kind} {caller}" for caller in range(CALLERS)]

    def check(caller: int) -> dict[str, Any]:
        return {"client_id": clients[caller]} | ({"request_id": f"{caller}-{next(numbers)}"} if several else {})

    with Load([node], check, width=CALLERS) as load:
        assert node.eventually(lambda: len(load.answers) > 100)
        keys = sum(move(cluster, slot_of(clients[turn % CALLERS])) for turn in range(MOVES))
    degraded = [answer for answer in load.answers if answer.json()["degraded"]]
    measured["keys moved"], measured["checks"], measured["degraded"] = keys, len(load.answers), len(degraded)
    measured["p99 ms"] = round(percentile([answer.seconds for answer in load.answers], 99) * 1e3, 1)
    measured["charges lost or doubled"] = sum(abs(lost(node, load, client)) for client in clients)
    assert load.errors == []
    assert load.statuses == {200}
    assert measured["charges lost or doubled"] == 0
    assert several or not degraded
    assert state_of(node) == "closed"


def move(cluster: ClusterGroup, number: int) -> int:
    """To the next primary, slowly enough for checks to meet every step."""
    at = cluster.primaries.index(cluster.owner(number))
    return cluster.move(number, cluster.primaries[(at + 1) % 3], lambda: threading.Event().wait(0.02))


def lost(node: Node, load: Load, client: str) -> int:
    """How many of the charges that Redis answered with "allowed" it does not know of."""
    admitted = [answer for answer in of(client, load) if answer["allowed"] and not answer["degraded"]]
    assert node.eventually(lambda: not node.check(client, cost=0)["degraded"])
    return len(admitted) - (LIMIT - node.check(client, cost=0)["remaining"])


def of(client: str, load: Load) -> list[dict[str, Any]]:
    """The decisions that the caller of this client got."""
    caller = int(client.rpartition(" ")[2])
    return [answer.json() for answer in load.answers if answer.caller == caller]


@contextlib.contextmanager
def away(cluster: ClusterGroup, port: int, fault: str) -> Iterator[None]:
    """Killed or stopped; afterwards it is back, as a replica."""
    server = cluster.servers[port]
    os.kill(server.pid, signal.SIGSTOP) if fault == "hung" else server.kill()
    try:
        yield
    finally:
        os.kill(server.pid, signal.SIGCONT) if fault == "hung" else server.start()
    eventually(lambda: "master_link_status:up" in cluster.ask(port, "INFO", "replication"))


def recovered(load: Load, clients: list[str]) -> bool:
    """Whether Redis decided the last checks of these."""
    callers = {int(client.rpartition(" ")[2]) for client in clients}
    last = [answer for answer in load.answers[-200 * CALLERS :] if answer.caller in callers][-50:]
    return len(last) == 50 and not any(answer.json()["degraded"] for answer in last)


def breakers(node: Node) -> set[str]:
    """What its workers say."""
    with Burst(node.port, 20) as burst:
        return {json.loads(answer)["state"] for answer in burst.get(STATUS)}


def state_of(node: Node) -> str:
    """What one worker says, always the same."""
    return str(node.request("GET", STATUS, key=None).json()["state"])


def available(node: Node) -> set[bool]:
    """What its workers say of Redis."""
    with Burst(node.port, 20) as burst:
        return {json.loads(answer)["redis_available"] for answer in burst.get("/health")}


def report(load: Load, since: float, measured: Figures) -> None:
    degraded: list[Answer] = [answer for answer in load.answers if answer.json()["degraded"]]
    meanwhile = [answer.seconds for answer in load.answers if since < answer.began < degraded[-1].began]
    measured["admitted per s before"] = sum(since - 1 < answer.began < since for answer in load.answers)
    measured["degraded checks"] = len(degraded)
    measured["the last one after, s"] = round(degraded[-1].began - since, 2)
    measured["p99 ms meanwhile"] = round(percentile(meanwhile, 99) * 1e3)


@pytest.mark.parametrize("fault", ["killed", "hung"])
@pytest.mark.fault(10, "one primary of a cluster is killed, or hangs, under load; `local`")
def test_a_failover_in_a_cluster_is_followed(
    cluster: ClusterGroup, start_node: StartNode, slot_of: SlotOf, fault: str, measured: Figures
) -> None:
    """Its replica takes over, and the node follows before its breaker would have probed; no check fails. Clients of
    the other primaries do not notice."""
    node = start_node(cluster.url, **SOON)
    node.put_rule(client_id=f"{fault} *", **HOUR)
    clients = [f"{fault} {caller}" for caller in range(CALLERS)]
    with Load([node], lambda caller: {"client_id": clients[caller]}, width=CALLERS) as load:
        began = time.monotonic()
        assert node.eventually(lambda: time.monotonic() > began + 1)
        witness = next(port for port in cluster.primaries if port != cluster.owner(slot_of(clients[0])))
        dying = cluster.owner(slot_of(clients[0]), witness)
        hit = [client for client in clients if cluster.owner(slot_of(client), witness) == dying]
        struck = time.monotonic()
        with away(cluster, dying, fault):
            eventually(lambda: cluster.owner(slot_of(clients[0]), witness) != dying)
            assert node.eventually(lambda: recovered(load, hit), seconds=30)
            assert node.eventually(lambda: breakers(node) == {"closed"})
    cluster.primaries[cluster.primaries.index(dying)] = cluster.owner(slot_of(clients[0]), witness)
    report(load, struck, measured)
    measured["charges lost"] = sum(lost(node, load, client) for client in hit)
    unharmed = [client for client in clients if client not in hit]
    before = sum(struck - 1.5 < answer.began < struck for answer in load.answers)
    assert load.errors == []
    assert load.statuses == {200}
    assert not any(decision["degraded"] for client in unharmed for decision in of(client, load))
    assert all(lost(node, load, client) == 0 for client in unharmed)
    assert measured["charges lost"] <= before  # the rate, times half a second for a busy machine, and what timed out


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has several addresses of the loopback")
@pytest.mark.fault(50, "a primary of a cluster is cut off from all other members, but not from the node; `local`")
def test_a_primary_that_its_cluster_does_not_see_is_left(
    tmp_path: Path, sockets: Path, start_node: StartNode, slot_of: SlotOf, measured: Figures
) -> None:
    """Its replica takes over. The old primary accepts charges until it finds itself alone; these are lost. Then the
    node follows. No check fails, and clients of the other primaries do not notice.
    """
    with cluster_group(tmp_path, sockets, PartedCluster) as cluster:
        node = start_node(cluster.url, **SOON)
        node.put_rule(client_id="split *", **HOUR)
        clients = [f"split {caller}" for caller in range(CALLERS)]
        alone = cluster.owner(slot_of(clients[0]))
        witness = next(port for port in cluster.primaries if port != alone)
        hit = [client for client in clients if cluster.owner(slot_of(client), witness) == alone]
        with Load([node], lambda caller: {"client_id": clients[caller]}, width=CALLERS) as load:
            began = time.monotonic()
            assert node.eventually(lambda: time.monotonic() > began + 1)
            parted = time.monotonic()
            with cluster.cut_off(alone):
                eventually(lambda: cluster.owner(slot_of(clients[0]), witness) != alone)
                measured["taken over after, s"] = round(time.monotonic() - parted, 2)
                eventually(lambda: "cluster_state:fail" in cluster.ask(alone, "CLUSTER", "INFO"))
                stopped = time.monotonic()
                assert node.eventually(lambda: recovered(load, hit), seconds=30)
                measured["followed after, s"] = round(time.monotonic() - parted, 2)
        measured["charges lost"] = sum(lost(node, load, client) for client in hit)
        others = [client for client in clients if client not in hit]
        assert all(lost(node, load, client) == 0 for client in others)
    measured["degraded checks"] = sum(answer.json()["degraded"] for answer in load.answers)
    measured["checks"] = len(load.answers)
    assert load.errors == []
    assert load.statuses == {200}
    assert not any(decision["degraded"] for client in others for decision in of(client, load))
    # What it took from when its replica saw nothing any more until it found itself alone.
    of_hit = [answer for client in hit for answer in load.answers if answer.caller == clients.index(client)]
    assert measured["charges lost"] <= sum(parted - 1 < answer.began < stopped for answer in of_hit)


@pytest.mark.fault(51, "a primary of a cluster dies, and its address goes to a server of another cluster; `local`")
def test_a_server_of_another_cluster_decides_nothing(
    cluster: ClusterGroup, start_node: StartNode, slot_of: SlotOf, measured: Figures
) -> None:
    """No node connects to that server: `fail_mode` decides until the replica takes over. A node started meanwhile uses
    the cluster that most servers of `REDIS_URL` report. No check fails.
    """
    node = start_node(cluster.url, **SOON)
    node.put_rule(client_id="moved in *", **HOUR)
    clients = [f"moved in {caller}" for caller in range(CALLERS)]
    dying = cluster.owner(slot_of(clients[0]))
    witness = next(port for port in cluster.primaries if port != dying)
    hit = [client for client in clients if cluster.owner(slot_of(client), witness) == dying]
    with away(cluster, dying, "killed"), cluster.stranger(dying):
        with Load([node], lambda caller: {"client_id": clients[caller]}, width=CALLERS) as load:
            eventually(lambda: cluster.owner(slot_of(clients[0]), witness) != dying)
            assert node.eventually(lambda: recovered(load, hit), seconds=30)
        second = start_node(cluster.url, **SOON)
        left = {client: node.check(client, cost=0)["remaining"] for client in clients}
        assert {client: second.check(client, cost=0)["remaining"] for client in clients} == left
        assert "REDIS_URL names servers of different clusters" in second.log.read_text()
        measured["keys at the other cluster"] = cluster.ask(dying, "DBSIZE")
    cluster.primaries[cluster.primaries.index(dying)] = cluster.owner(slot_of(clients[0]), witness)
    measured["checks"] = len(load.answers)
    assert load.errors == []
    assert load.statuses == {200}
    assert measured["keys at the other cluster"] == 0


@pytest.mark.fault(10, "a primary that one worker of a node has met so far dies")
def test_workers_of_a_node_agree_about_a_primary(
    cluster: ClusterGroup, start_node: StartNode, slot_of: SlotOf, measured: Figures
) -> None:
    """Every worker says that the breaker is open, and that Redis is not available.

    The last test with this cluster: a slot is lost.
    """
    node = start_node(cluster.url, **SOON)
    node.put_rule(client_id="agreed", **HOUR)
    assert breakers(node) == {"closed"}
    new = cluster.join()
    cluster.move(slot_of("agreed"), new)
    assert node.eventually(lambda: not node.check("agreed")["degraded"])  # over one connection, so to one worker
    cluster.servers[new].kill()
    assert node.eventually(lambda: node.check("agreed")["degraded"] and state_of(node) == "open")
    said = [breakers(node) for _ in range(5)]
    measured["answers of its workers"] = " or ".join(sorted(set.union(*said)))
    assert said == [{"open"}] * 5
    assert node.eventually(lambda: available(node) == {False})
