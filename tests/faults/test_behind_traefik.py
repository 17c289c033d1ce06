"""Three nodes of two workers behind the real Traefik, with its files as they are (rows 34 to 38)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
import yaml

from devstack import Valkey
from tests.support.burst import Burst
from tests.support.faults import ALL, Figures
from tests.support.load import Load, percentile
from tests.support.node import Node
from tests.support.traefik import DYNAMIC, Traefik

WIDTH, HOUR = 12, 3600
MANY = 1_000_000
CHECKS_OF_A_WORKER = 300 if ALL else 50
BURSTS = 50 if ALL else 15  # of 200 checks
SERVICES = yaml.safe_load((DYNAMIC / "limiter.yml").read_text())["http"]["services"]
PROBES = SERVICES["checks"]["loadBalancer"]["healthCheck"]

Cluster = tuple[list[Node], Traefik]


@pytest.fixture(scope="module")
def start_three(
    valkey: Valkey, own_database: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., Cluster]]:
    """Starts three nodes and a Traefik in front of them, until the end of the module."""
    with ExitStack() as running:

        def start(**settings: Any) -> Cluster:
            common = {"redis_url": valkey.url, "database_url": own_database, "NODES": 3, "DRAIN_SECONDS": 3}
            patient = {"REDIS_TIMEOUT_MS": 5000, "BREAKER_FAILURES": MANY}
            places = [tmp_path_factory.mktemp("node") for _ in range(3)]
            nodes = [running.enter_context(Node(data_dir=place, **common | patient | settings)) for place in places]
            traefik = Traefik(tmp_path_factory.mktemp("traefik"), [node.port for node in nodes])
            return nodes, running.enter_context(traefik)

        yield start


@pytest.fixture(scope="module")
def three(start_three: Callable[..., Cluster]) -> Cluster:
    return start_three()


@pytest.mark.fault(
    34, f"none: {200 * BURSTS:,} checks of one key, 200 at a time, through Traefik and three nodes of two workers"
)
def test_exactly_the_limit_is_admitted_behind_traefik(three: Cluster, measured: Figures) -> None:
    """Exactly the limit is admitted, and every node takes part."""
    nodes, traefik = three
    limit, client = 86 * BURSTS + 21, "behind"
    put_rule(nodes, client_id=client, rate=limit, window=HOUR, algorithm="fixed_window")
    before = [checks_of(node, client) for node in nodes]
    with Burst(traefik.port, 200) as burst:
        decisions = [decision for _ in range(BURSTS) for decision in burst.check(client_id=client)]
    shares = [checks_of(node, client) - earlier for node, earlier in zip(nodes, before, strict=True)]
    measured["checks"], measured["limit"] = len(decisions), limit
    measured["admitted"] = sum(decision["allowed"] for decision in decisions)
    measured["checks per node"] = ", ".join(f"{share:,.0f}" for share in shares)
    assert not any(decision["degraded"] for decision in decisions)
    assert measured["admitted"] == limit
    assert sum(shares) == len(decisions)
    assert min(shares) > len(decisions) / 6


@pytest.mark.fault(35, "one of three nodes behind Traefik is killed (SIGKILL) under load")
def test_a_killed_node_costs_only_what_it_was_answering(three: Cluster, measured: Figures) -> None:
    """Only requests in flight at the killed node fail. Traefik removes the node after the next health probe. Until
    then, a refused connection loses no check. Counts stay exact.
    """
    (doomed, *others), traefik = three
    put_rule(three[0], client_id="killed", rate=MANY, window=9_000, algorithm="fixed_window")
    with Load([traefik], {"client_id": "killed"}, width=WIDTH) as load:
        assert traefik.eventually(lambda: len(load.answers) > 200)
        processes, killed = 1 + len(doomed.workers), time.monotonic()
        doomed.kill()
        gone = time.monotonic()
        assert traefik.eventually(lambda: traefik.up() == [False, True, True])
        measured["left out after, s"] = round(time.monotonic() - killed, 2)
        assert traefik.eventually(lambda: load.answers[-1].began > killed + 3)
    doomed.start()
    assert traefik.eventually(lambda: all(traefik.up()))
    answered = len(load.decisions())
    failed = len(load.answers) - answered
    charged = MANY - others[0].check("killed", cost=0)["remaining"]
    measured["probes, s"] = f"every {PROBES['interval']}, {PROBES['timeout']} each"
    measured["checks"], measured["failed"], measured["at once"] = answered + failed, failed, WIDTH
    measured["charged more than answered"] = charged - answered
    measured["p99 of answers after it, ms"] = ms(load, since=killed)
    assert load.statuses <= {200, 502}
    assert load.errors == []
    # In flight: on their way while it died. That takes milliseconds, until its last process has closed the last
    # socket, and a caller whom one of them has left may meet the next one.
    assert all(
        asked.began <= gone and asked.began + asked.seconds >= killed for asked in load.answers if asked.status != 200
    )
    assert failed <= WIDTH * processes
    assert not any(decision["degraded"] for decision in load.decisions())
    assert answered <= charged <= answered + failed


@pytest.mark.fault(36, "all three nodes behind Traefik are restarted one after the other (SIGTERM) under load")
def test_a_rolling_restart_costs_no_check(three: Cluster, measured: Figures) -> None:
    """No check fails or degrades, and each is charged exactly once."""
    nodes, traefik = three
    put_rule(nodes, client_id="rolled", rate=MANY, window=9_000, algorithm="fixed_window")
    with Load([traefik], {"client_id": "rolled"}, width=WIDTH) as load:
        began = time.monotonic()
        restart(nodes)
        measured["seconds"] = round(time.monotonic() - began, 1)
    measured["checks"], measured["failed"] = len(load.answers), len(load.errors)
    measured["p99 ms"] = ms(load, since=began)
    assert load.errors == []
    assert load.statuses == {200}
    assert not any(decision["degraded"] for decision in load.decisions())
    assert MANY - nodes[0].check("rolled", cost=0)["remaining"] == len(load.answers)


@pytest.mark.fault(
    38, "two of three nodes behind Traefik restarted likewise, the third dead, every processor busy, three times over"
)
@pytest.mark.skipif(not ALL, reason="takes minutes: `make faults` runs it")
def test_a_rolling_restart_with_a_dead_node_costs_no_check(
    start_three: Callable[..., Cluster], measured: Figures
) -> None:
    """No check fails or degrades, and each is charged exactly once."""
    (dead, *others), traefik = start_three()
    put_rule([dead, *others], client_id="one dead", rate=MANY, window=9_000, algorithm="fixed_window")
    dead.kill()
    assert traefik.eventually(lambda: traefik.up() == [False, True, True])
    with busy_processors(), Load([traefik], {"client_id": "one dead"}, width=WIDTH) as load:
        began = time.monotonic()
        for _ in range(3):
            restart(others)
        measured["seconds"] = round(time.monotonic() - began, 1)
    measured["checks"] = len(load.answers)
    measured["failed"] = len(load.errors) + sum(answer.status != 200 for answer in load.answers)
    measured["p99 ms"] = ms(load, since=began)
    assert load.errors == []
    assert load.statuses == {200}
    assert not any(decision["degraded"] for decision in load.decisions())
    assert MANY - others[0].check("one dead", cost=0)["remaining"] == len(load.answers)


@pytest.mark.fault(37, f"every worker of three nodes behind Traefik is replaced after {CHECKS_OF_A_WORKER} checks")
def test_replaced_workers_cost_no_check(start_three: Callable[..., Cluster], measured: Figures) -> None:
    """No check fails, and each is charged exactly once."""
    nodes, traefik = start_three(GUNICORN_CMD_ARGS=f"--max-requests {CHECKS_OF_A_WORKER}", REDIS_TIMEOUT_MS=20_000)
    put_rule(nodes, client_id="recycled", rate=MANY, window=9_000, algorithm="fixed_window")
    with Load([traefik], {"client_id": "recycled"}, width=WIDTH) as load:
        assert traefik.eventually(lambda: len(load.answers) >= 20 * CHECKS_OF_A_WORKER, 60)
    measured["checks"], measured["failed"] = len(load.answers), len(load.errors)
    measured["workers replaced"] = sum(node.log.read_text().count("Autorestarting worker") for node in nodes)
    assert load.errors == []
    assert load.statuses == {200}
    assert measured["workers replaced"] > 6
    assert MANY - nodes[0].check("recycled", cost=0)["remaining"] == len(load.answers)


def restart(nodes: list[Node]) -> None:
    """As docs/deploying.md says: the next one when this one is ready, whether or not Traefik has found it so."""
    for node in nodes:
        node.stop(signal.SIGTERM)
        node.start()
        assert node.eventually(lambda node=node: node.request("GET", "/readyz", key=None).status_code == 200)


@contextmanager
def busy_processors() -> Iterator[None]:
    """Each has something else to do."""
    with ExitStack() as running:
        for _ in range(os.cpu_count() or 1):
            process = running.enter_context(subprocess.Popen([sys.executable, "-c", "while True: pass"]))
            running.callback(process.kill)
        yield


def put_rule(nodes: list[Node], **rule: Any) -> None:
    """Until every node decides by it."""
    nodes[0].put_rule(**rule)
    current = nodes[0].metric("ratelimiter_rules_version")
    for node in nodes[1:]:
        assert node.eventually(lambda node=node: node.metric("ratelimiter_rules_version") >= current)


def checks_of(node: Node, client_id: str) -> float:
    """That it has answered."""
    labels = f'{{client_id="{client_id}",endpoint="*"}}'
    return sum(node.metric(f"ratelimiter_{what}_total{labels}") for what in ("allowed", "blocked"))


def ms(load: Load, *, since: float) -> int:
    return round(percentile((answer.seconds for answer in load.answers if answer.began > since), 99) * 1000)
