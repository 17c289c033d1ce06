"""Processes of a node die (rows 16 and 17 of the fault matrix)."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from pathlib import Path

import pytest

from devstack import Valkey
from tests.faults.conftest import StartNode
from tests.support.faults import ALL, Figures
from tests.support.load import Load

WORKERS, WIDTH = 3, 12
SECONDS = 60 if ALL else 5


@pytest.mark.fault(16, f"a worker at random is killed (SIGKILL) every half second for {SECONDS} s under load")
def test_a_killed_worker_costs_only_what_it_was_answering(
    valkey: Valkey, start_node: StartNode, measured: Figures
) -> None:
    """Only requests at the killed workers fail; each is charged once at most, all others exactly once."""
    node, dice = start_node(valkey.url, WEB_CONCURRENCY=WORKERS), random.Random(20261125)
    node.put_rule(client_id="killed", rate=1_000_000, window=9_000, algorithm="fixed_window")
    kills, respawns = 0, []
    with Load([node], {"client_id": "killed"}, width=WIDTH) as load:
        until = time.monotonic() + SECONDS
        while time.monotonic() < until:
            assert not threading.Event().wait(0.5)
            os.kill(dice.choice(node.workers), signal.SIGKILL)
            kills, killed = kills + 1, time.monotonic()
            assert node.eventually(lambda: len(node.workers) == WORKERS)
            respawns.append(time.monotonic() - killed)
        assert node.eventually(lambda: load.answers[-1].began > killed)
    charged = 1_000_000 - node.check("killed", cost=0)["remaining"]
    measured["kills"], measured["checks"], measured["failed"] = kills, len(load.answers), len(load.errors)
    measured["charged more than answered"] = charged - len(load.answers)
    measured["slowest respawn, s"] = round(max(respawns), 2)
    assert load.statuses == {200}
    assert not any(decision["degraded"] for decision in load.decisions())
    assert len(load.errors) <= kills * WIDTH
    assert len(load.answers) <= charged <= len(load.answers) + len(load.errors)


@pytest.mark.fault(17, "the master of one of two nodes is killed (SIGKILL) under load")
def test_a_dead_node_is_no_matter_to_the_other(valkey: Valkey, start_node: StartNode, measured: Figures) -> None:
    """The other node answers every check; the orphaned workers end by themselves."""
    doomed, other = start_node(valkey.url), start_node(valkey.url)
    other.put_rule(client_id="left", rate=1_000_000, window=9_000)
    orphans = doomed.workers
    with Load([other], {"client_id": "left"}, width=WIDTH) as load:
        os.kill(doomed.pid, signal.SIGKILL)
        killed = time.monotonic()
        assert other.eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in orphans), 30)
        measured["orphans gone after, s"] = round(time.monotonic() - killed, 1)
    measured["checks at the other"], measured["failed"] = len(load.answers), len(load.errors)
    assert load.errors == []
    assert load.statuses == {200}
    assert not any(decision["degraded"] for decision in load.decisions())
