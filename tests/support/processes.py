"""What the system tells about processes (Linux; elsewhere the test is skipped)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

LISTS_CHILDREN = Path(f"/proc/self/task/{os.getpid()}/children").exists()


def children(pid: int) -> list[int]:
    """Of a master: its workers. None of a process that has ended."""
    if not LISTS_CHILDREN:
        pytest.skip("this system does not list the children of a process")
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def runs(pid: int) -> bool:
    """Whether any of its threads still does. What has ended and waits for somebody to take note of it does not."""
    tasks = list(Path(f"/proc/{pid}/task").glob("*/stat"))
    return any(_state(task) not in ("", "Z", "X") for task in tasks)


def _state(stat: Path) -> str:
    try:
        return stat.read_text().rpartition(") ")[2][:1]
    except OSError:  # gone meanwhile
        return ""


def resident_bytes(pid: int) -> int:
    """Memory that is not shared with other processes."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("RssAnon:")[2].split()[0]) * 1024


def cpu_seconds(pid: int) -> float:
    """Its own and the kernel's on its behalf, so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
