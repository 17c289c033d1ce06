"""Processes under measurement: their processor, and their use of it (Linux)."""

from __future__ import annotations

import contextlib
import functools
import os
import socket
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

START_SECONDS, STOP_SECONDS = 30, 30


@functools.cache
def processors() -> tuple[int, int]:
    """Return the worker's processor, and the one that Redis and the load share. Call it before pinning any process."""
    worker, load, *_ = sorted(os.sched_getaffinity(0))
    return worker, load


@contextlib.contextmanager
def on_worker_processor() -> Iterator[None]:
    """Run processes started inside on the worker's processor, with all their later threads."""
    worker, load = processors()
    os.sched_setaffinity(0, {worker})
    try:
        yield
    finally:
        os.sched_setaffinity(0, {load})


def workers(pid: int) -> list[int]:
    """Return the children of a master, or the process itself if it has none."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()] or [pid]


def cpu_ns(pids: Iterable[int]) -> tuple[int, int]:
    """Return nanoseconds on a processor and waiting for one, of all threads together (/proc/…/schedstat)."""
    threads = [thread for pid in pids for thread in Path(f"/proc/{pid}/task").iterdir()]
    times = [(thread / "schedstat").read_text().split() for thread in threads]
    return sum(int(on) for on, _, _ in times), sum(int(waiting) for _, waiting, _ in times)


def kernel_ns(pid: int) -> int:
    """Return the part spent in the kernel, in steps of 10 ms (stime of /proc/PID/stat)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[12]) * 1_000_000_000 // os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def running(
    argv: Sequence[str], *, port: int, directory: Path, environment: Mapping[str, str], log: Path
) -> Iterator[int]:
    """Run a server on the worker's processor; yield its pid once it listens, and stop it at the end."""
    with log.open("ab") as output, on_worker_processor():
        process = subprocess.Popen(argv, cwd=directory, env=environment, stdout=output, stderr=output)
    try:
        _await_port(port, process, log)
        yield process.pid
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _await_port(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.05)
    raise RuntimeError(f"{process.args!r} did not start:\n{log.read_text()}")
