"""What the system tells about processes (Linux; elsewhere the test is skipped)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


def children(pid: int) -> list[int]:
    """Of a master: its workers."""
    listed = Path(f"/proc/{pid}/task/{pid}/children")
    if not listed.exists():
        pytest.skip("this system does not list the children of a process")
    return [int(child) for child in listed.read_text().split()]


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
