"""Redis hangs under a node of four workers: they open, probe and close as one (rows 4, 16 and 19 of the matrix)."""

from __future__ import annotations

import json
import os
import signal
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests

from app.limiter.breaker.breaker import JITTER
from devstack import Valkey
from tests.support.burst import Burst
from tests.support.faults import ALL, Figures
from tests.support.load import Load, percentile
from tests.support.node import Node
from tests.support.proxy import Proxy

WORKERS = 4
CALLERS = 200
TIMEOUT_MS = 300
RESET_SECONDS = 1
FAILURES = 5
PROBES = 3
STAGGERED, PER_SECOND = 4000 if ALL else 1500, 1000
PROBED = "open -> half-open"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, sockets: Path) -> Iterator[Valkey]:
    own = sockets / "breaker"
    own.mkdir()
    with Valkey(data_dir=tmp_path_factory.mktemp("breaker") / "valkey", socket_dir=own, durable=False) as valkey:
        yield valkey


@pytest.fixture
def proxy(server: Valkey) -> Iterator[Proxy]:
    with Proxy(server.socket_dir / "valkey.sock") as running:
        yield running


@pytest.fixture
def node(proxy: Proxy, database_url: str, tmp_path: Path) -> Iterator[Node]:
    with Node(
        redis_url=proxy.url,
        database_url=database_url,
        data_dir=tmp_path,
        WEB_CONCURRENCY=WORKERS,
        REDIS_TIMEOUT_MS=TIMEOUT_MS,
        BREAKER_RESET_SECONDS=RESET_SECONDS,
        BREAKER_FAILURES=FAILURES,
    ) as running:
        # Of each worker one for checks and one for looks, and the start's own.
        assert running.eventually(lambda: len(workers(running)) == WORKERS and proxy.connections == 2 * WORKERS + 1)
        yield running


@contextmanager
def hung(server: Valkey) -> Iterator[None]:
    os.kill(server.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(server.pid, signal.SIGCONT)


@pytest.mark.fault(19, "Redis hangs (SIGSTOP) under four workers and 200 callers; timeout 0.3 s, reset 1 s")
def test_it_opens_as_one_probes_once_an_interval_and_recovers(
    node: Node, server: Valkey, proxy: Proxy, measured: Figures
) -> None:
    """One probe per node and interval, and one check that waits for it; all other checks are answered at once. The
    breaker opens, is reported and closes on all workers together, without a restart.
    """
    before = workers(node)
    with Burst(node.port, CALLERS) as callers:
        with hung(server):
            assert node.eventually(lambda: callers.check(client_id="anyone")[0]["degraded"] and state(node) != "closed")
            assert {status["state"] for status in statuses(node)} <= {"open", "half_open"}
            assert gauges(node) <= {1, 2}
            probes_under_load(node, proxy, callers, measured)
            latency_of_everybody_else(node, callers, measured)
        assert node.eventually(lambda: not callers.check(client_id="anyone")[0]["degraded"])
    assert node.eventually(lambda: state(node) == "closed")
    assert statuses(node) == [{"state": "closed", "failure_count": 0, "time_until_retry_seconds": 0.0}]
    assert gauges(node) == {0}
    assert turns(node, "closed -> open") == turns(node, "half-open -> closed") == 1
    assert turns(node, "fail_mode open decides") == 1
    assert workers(node) == before


def probes_under_load(node: Node, proxy: Proxy, callers: Burst, measured: Figures) -> None:
    """All callers ask at once, again and again: how many probes met the hung Redis, and how many checks waited."""
    rounds: list[float] = []

    def probed(times: int) -> bool:
        start = time.perf_counter()
        assert all(decision["degraded"] for decision in callers.check(client_id="anyone"))
        rounds.append(time.perf_counter() - start)
        return turns(node, PROBED) >= times

    assert node.eventually(lambda: probed(1))  # by now the last call from before has failed
    begin, connections, logged, waited = time.perf_counter(), proxy.connections, turns(node, PROBED), waits(node)
    rounds.clear()
    assert node.eventually(lambda: probed(logged + PROBES))
    probes, intervals = turns(node, PROBED) - logged, (time.perf_counter() - begin) / (RESET_SECONDS * (1 - JITTER))
    measured["checks of 200 at once"], measured["intervals at most"] = CALLERS * len(rounds), int(intervals) + 1
    measured["probes"], measured["checks that waited"] = probes, waits(node) - waited
    measured["all 200 answered after, median ms"] = round(statistics.median(rounds) * 1e3, 1)
    assert probes <= intervals + 1
    # Every failure gives a connection up, so every probe opens one. The first or the last may still be on its way.
    assert abs(proxy.connections - connections - probes) <= 1
    assert waits(node) - waited < 10 * probes  # a check with each; the rest is room for a machine that stands still


def latency_of_everybody_else(node: Node, callers: Burst, measured: Figures) -> None:
    """Each caller in his turn: what those waited that were no probe."""
    logged = turns(node, PROBED)
    took = sorted(callers.staggered(STAGGERED, PER_SECOND, client_id="anyone"))
    probes = turns(node, PROBED) - logged
    others = took[: len(took) - probes]
    measured["checks one after another"], measured["probes meanwhile"] = STAGGERED, probes
    measured["all others: p50 ms"], measured["p99 ms"] = (
        round(percentile(others, percent) * 1e3, 2) for percent in (50, 99)
    )
    measured["longest ms"] = round(others[-1] * 1e3, 2)


def waits(node: Node) -> int:
    """Checks so far that waited for the timeout."""
    quick = node.metric('ratelimiter_check_duration_seconds_bucket{le="0.25"}')
    return int(node.metric("ratelimiter_check_duration_seconds_count") - quick)


def test_workers_killed_during_the_probe_hold_nobody_up(node: Node, server: Valkey) -> None:
    with hung(server), Load([node], {"client_id": "anyone"}):
        assert node.eventually(lambda: state(node) == "half_open")
        killed = workers(node)
        for pid in killed:
            os.kill(pid, signal.SIGKILL)
    assert node.eventually(lambda: answers(node) and not node.check("anyone")["degraded"])
    assert node.eventually(lambda: state(node) == "closed")
    assert not killed & workers(node)


def state(node: Node) -> str:
    """Asked on a connection of its own, so of any worker."""
    name: str = requests.get(f"{node.url}/circuit-breaker-status", timeout=10).json()["state"]
    return name


def statuses(node: Node) -> list[dict[str, Any]]:
    """What the workers say of the breaker, each different answer once."""
    return [json.loads(answer) for answer in dict.fromkeys(of_all_workers(node, "/circuit-breaker-status"))]


def gauges(node: Node) -> set[float]:
    """What the workers' scrapes say of the breaker."""
    lines = b"\n".join(of_all_workers(node, "/metrics")).splitlines()
    return {float(line.split()[1]) for line in lines if line.startswith(b"ratelimiter_circuit_breaker_state ")}


def of_all_workers(node: Node, path: str) -> list[bytes]:
    """The answers on many connections at once, which the kernel spreads over the workers."""
    with Burst(node.port, 5 * WORKERS) as callers:
        return callers.get(path)


def answers(node: Node) -> bool:
    try:
        return node.request("GET", "/livez", key=None).status_code == 200
    except requests.ConnectionError:
        return False


def turns(node: Node, words: str) -> int:
    """Lines of the log that say so."""
    return node.log.read_text().count(words)


def workers(node: Node) -> set[int]:
    children = Path(f"/proc/{node.pid}/task/{node.pid}/children")
    if not children.exists():
        pytest.skip("this system does not list the children of a process")
    return {int(child) for child in children.read_text().split()}
