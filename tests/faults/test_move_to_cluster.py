"""From one Redis to a cluster with the commands of docs/operations.md: counters, request ids and leases go along."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app.rules.rule import ALGORITHMS
from tests.faults.conftest import StartNode, StartRedis
from tests.support.faults import Figures
from tests.support.front import program
from tests.support.load import Load
from tests.support.node import ROOT, Node, free_port
from tests.support.topologies import ClusterGroup, cluster_group

# So slow a refill that a bucket gains nothing while the test runs.
RULE = {"rate": 20, "window": 9_000_000}
MANY, HOUR_MS = 1_000_000, 3_600_000
ONCE = "fixed_window-once"
CLIENTS = [f"{algorithm}-{number}" for algorithm in ALGORITHMS for number in range(40)]


@pytest.fixture
def cluster(tmp_path: Path, sockets: Path) -> Iterator[ClusterGroup]:
    with cluster_group(tmp_path, sockets) as running:
        yield running


@pytest.mark.fault(
    39, "one Redis is replaced by a cluster: its counters are copied under load, then a node is started there"
)
def test_counters_go_along_to_a_cluster(
    start_redis: StartRedis, start_node: StartNode, cluster: ClusterGroup, measured: Figures
) -> None:
    """What each client has left is the same there, also by request ids and leases; no check fails or degrades."""
    program("redis-cli")
    port = free_port()
    single = start_redis(port=str(port), bind="127.0.0.1")
    before = start_node(single.url)
    for algorithm in ALGORITHMS:
        before.put_rule(client_id=f"{algorithm}-*", algorithm=algorithm, **RULE)
    before.put_rule(client_id="busy", algorithm="fixed_window", rate=MANY, window=3600)
    for number, client in enumerate(CLIENTS):
        before.check(client, cost=1 + number % 20)
    once = before.check(ONCE, request_id="move")
    lease = before.request(
        "POST", "/v1/leases", key=None, json={"client_id": "fixed_window-leased", "permits": 7, "ttl_ms": HOUR_MS}
    ).json()
    with Load([before], {"client_id": "busy"}, width=4) as load:
        assert before.eventually(lambda: len(load.answers) > 100)
        began = time.monotonic()
        copy(port, cluster.primaries[0])
        measured["copied in, s"] = round(time.monotonic() - began, 1)
    assert load.errors == []
    assert load.statuses == {200}
    assert not any(decision["degraded"] for decision in load.decisions())
    after = start_node(cluster.url)
    assert after.check(ONCE, request_id="move") == once  # known for a minute
    same = {name: left(after, name) == left(before, name) for name in CLIENTS}
    measured["clients"], measured["counters that differ"] = len(CLIENTS), list(same.values()).count(False)
    measured["charged after the copy"] = left(after, "busy") - left(before, "busy")
    assert all(same.values()), same
    assert left(after, ONCE) == once["remaining"]
    path = f"/v1/leases/{lease['lease_id']}/return"
    assert after.request("POST", path, key=None, json={"unused": 7}).json()["returned"] == 7
    assert 0 <= measured["charged after the copy"] <= len(load.answers)


def copy(single: int, member: int) -> None:
    """As the documentation says."""
    section = (ROOT / "docs/operations.md").read_text().partition("## From one Redis to a cluster\n")[2]
    [command] = re.findall(r"^\$ (.*)$", section.partition("\n## ")[0], re.MULTILINE)
    places = {"SINGLE": f"127.0.0.1:{single}", "CLUSTER_NODE": f"127.0.0.1:{member}"}
    environment: dict[str, Any] = {"PATH": os.environ["PATH"]} | places
    done = subprocess.run(
        ["bash", "-c", command], env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def left(node: Node, client: str) -> int:
    remaining: int = node.check(client, cost=0)["remaining"]
    return remaining
