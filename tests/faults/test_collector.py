"""The collector of traces is dead, or a black hole (row 26 of the fault matrix)."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import pytest

from app.observability.sampling import QUEUE
from benchmarks.processes import cpu_ns
from devstack import Valkey
from tests.faults.conftest import StartNode
from tests.observability.collectors import black_hole, collector
from tests.support.burst import Burst
from tests.support.faults import ALL, Figures
from tests.support.load import percentile
from tests.support.node import Node, free_port
from tests.support.processes import resident_bytes

ROUNDS = 15 if ALL else 2
STAGGERED, PER_SECOND = 1000 if ALL else 300, 1000
WIDTH, BURSTS = 40, 50 if ALL else 25
Round = dict[str, float]


@pytest.fixture
def start(valkey: Valkey, start_node: StartNode) -> Callable[..., Node]:
    def starter(**settings: Any) -> Node:
        return start_node(valkey.url, WEB_CONCURRENCY=1, DEFAULT_RATE=1_000_000, **settings)

    return starter


def traced(port: int) -> dict[str, object]:
    return {"JAEGER_ENABLED": "true", "JAEGER_HOST": "127.0.0.1", "JAEGER_PORT": port}


def loaded(node: Node) -> Round:
    """Callers at a constant rate, then as fast as they are answered: latency, throughput, CPU of the worker."""
    with Burst(node.port, WIDTH) as callers:
        before = cpu_ns(node.workers)[0]
        took = callers.staggered(STAGGERED, PER_SECOND, client_id="traced")
        began = time.monotonic()
        decisions = [decision for _ in range(BURSTS) for decision in callers.check(client_id="traced")]
        seconds = time.monotonic() - began
        used = cpu_ns(node.workers)[0] - before
    assert not any(decision["degraded"] for decision in decisions)
    return {
        "p99 ms": percentile(took, 99) * 1e3,
        "checks/s": len(decisions) / seconds,
        "CPU µs a check": used / 1e3 / (len(took) + len(decisions)),
    }


@pytest.mark.fault(26, f"the collector of traces is dead, or a black hole, 1 % sampled; {ROUNDS} rounds by turns")
def test_a_collector_that_is_away_changes_nothing_else(start: Callable[..., Node], measured: Figures) -> None:
    """No check fails or degrades; latency, throughput and CPU are as with a collector that answers."""
    with black_hole() as port, collector() as alive:
        ports = {"alive": alive.server_port, "dead": free_port(), "black hole": port}
        nodes = {"off": start()} | {name: start(**traced(port)) for name, port in ports.items()}
        rounds: dict[str, list[Round]] = {name: [] for name in nodes}
        for turn in range(ROUNDS + 1):
            for name, node in nodes.items():
                rounds[name] += [loaded(node)][: turn > 0]  # the first warms up
    for figure in rounds["off"][0]:
        measured[figure] = compared({name: [one[figure] for one in seen] for name, seen in rounds.items()})
    off, away = (sum(one["CPU µs a check"] for one in rounds[name]) for name in ("off", "black hole"))
    assert away < 2 * off


def compared(found: dict[str, list[float]]) -> str:
    """The median without traces and what it varied by; for the others, how much more, the median of the rounds."""
    off = found["off"]
    stated = [f"without traces {statistics.median(off):,.4g} ({min(off):,.4g} to {max(off):,.4g})"]
    for name in [*found][1:]:
        more = statistics.median(one / base - 1 for one, base in zip(found[name], off, strict=True))
        stated.append(f"{name} {more:+.1%}")
    return ", ".join(stated)


@pytest.mark.fault(26, "the same black hole, every check traced")
def test_spans_that_nobody_takes_are_bounded(start: Callable[..., Node], measured: Figures) -> None:
    """No check fails or degrades for it; the spans that wait are bounded, and the node stops in time."""
    with black_hole() as port:
        node = start(**traced(port), OTEL_TRACES_SAMPLER="always_on")
        loaded(node)  # more spans than may wait
        [worker] = node.workers
        memory = resident_bytes(worker)
        for _ in range(ROUNDS):
            loaded(node)
        measured["checks"], measured["spans that may wait"] = ROUNDS * (STAGGERED + WIDTH * BURSTS), QUEUE
        measured["memory grew by, MiB"] = round((resident_bytes(worker) - memory) / 1024**2, 1)
        assert measured["memory grew by, MiB"] < 60
        began = time.monotonic()
        node.stop()  # within its half minute
        measured["stopped after, s"] = round(time.monotonic() - began, 1)
