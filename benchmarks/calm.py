"""Runs that are measured while nobody else slows the machine down.

What shares a physical core with us, unseen, makes everything up to twice as dear, for seconds at a time. A fixed loop
shows it: its CPU time on each processor, beside the least it ever took here. A run counts when the machine was calm
before and after it; what the run itself measured has no say.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from benchmarks.processes import on_worker_processor

ADDITIONS = 200_000  # 5 ms or so
SLOWER = 1.15  # than the least: disturbed
WAIT_SECONDS, PAUSE_SECONDS = 60, 0.2  # for a calm moment
ATTEMPTS = 12

T = TypeVar("T")


class Calm:
    """Made on the processor of the load, where this process runs."""

    def __init__(self) -> None:
        self._least_ns = min(_loop_ns() for _ in range(20))

    def now(self) -> bool:
        """Whether both processors are as fast as they ever were."""
        with on_worker_processor():
            took = [_loop_ns()]
        took.append(_loop_ns())
        self._least_ns = min(self._least_ns, *took)
        return max(took) <= SLOWER * self._least_ns

    def measured(self, run: Callable[[], T]) -> tuple[T, bool]:
        """What `run` gave between two calm moments, and True; or else what it gave last, and False."""
        for _ in range(ATTEMPTS):
            self._wait()
            found = run()
            if self.now():
                return found, True
        return found, False

    def _wait(self) -> None:
        deadline = time.monotonic() + WAIT_SECONDS
        while not self.now() and time.monotonic() < deadline:
            time.sleep(PAUSE_SECONDS)


def _loop_ns() -> int:
    started, total = time.thread_time_ns(), 0
    for number in range(ADDITIONS):
        total += number
    return time.thread_time_ns() - started
