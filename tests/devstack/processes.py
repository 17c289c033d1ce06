"""Looking at processes that are nobody's child any more."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

PATIENCE_SECONDS = 10


def runs(pid: int) -> bool:
    """Whether the process is there and not merely waiting to be buried."""
    state, _ = _state_and_parent(pid)
    return not state.startswith("Z")


def parent_of(pid: int) -> int:
    """For a program under a guard that is the guard."""
    return int(_state_and_parent(pid)[1])


def becomes_true(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return condition()


def ends(pid: int) -> bool:
    return becomes_true(lambda: not runs(pid))


def _state_and_parent(pid: int) -> tuple[str, str]:
    """`Z` also for a process that is no more. Small images of Linux have no `ps`."""
    if sys.platform == "linux":
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            fields = []
    else:
        fields = subprocess.run(
            ["ps", "-o", "stat=,ppid=", "-p", str(pid)], capture_output=True, text=True
        ).stdout.split()
    return (fields[0], fields[1]) if fields else ("Z", "0")
