"""The suite on several processes (pytest-xdist), each with servers of its own, and its end when it is stopped.

A file's tests stay in one process, in their order: they share servers and nodes.
"""

from __future__ import annotations

import os
import signal
import time
from typing import Any

import pytest
import xdist
from xdist.scheduler import LoadFileScheduling

from tests.support.processes import LISTS_CHILDREN, children

TIDY_SECONDS = 60
# Long files begin first, so that no process has work left when the others have ended. Beside the attacks, which measure
# how long others wait, run tests that wait themselves.
FIRST = ("attacks", "deploy", "devstack", "sdk", "soak", "faults", "exactness", "benchmarks", "server", "cli")
TOGETHER = ("tests/attacks",)  # rooms whose files share a node


def pytest_configure() -> None:
    """However the suite is stopped, SIGTERM and SIGINT of a job in the background included, its servers end with it."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _interrupted)


def _interrupted(number: int, _: object) -> None:
    signal.signal(number, signal.SIG_IGN)  # once: what follows is tidying up
    raise KeyboardInterrupt


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Interrupts the other processes too, and waits until they have stopped their servers: xdist kills them soon."""
    if exitstatus == pytest.ExitCode.INTERRUPTED and xdist.is_xdist_controller(session) and LISTS_CHILDREN:
        workers = children(os.getpid())
        for pid in workers:
            os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + TIDY_SECONDS
        while any(map(children, workers)) and time.monotonic() < deadline:
            time.sleep(0.05)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=_turn)  # stable: a room keeps its order


def _turn(item: pytest.Item) -> int:
    room = item.nodeid.split("/")[1]
    return FIRST.index(room) if room in FIRST else len(FIRST)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadFileScheduling:
    config.option.loadscopereorder = False
    return Files(config, log)


class Files(LoadFileScheduling):
    """A file at a time; of some rooms all files."""

    def _split_scope(self, nodeid: str) -> str:
        file: str = super()._split_scope(nodeid)
        return next((room for room in TOGETHER if file.startswith(f"{room}/")), file)
