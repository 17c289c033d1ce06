"""Measures the machine's current speed: other users may share its physical cores unseen, and double all costs.

A fixed loop shows the speed. Runs are selected by the loops before and after them, never by their own results.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from benchmarks.processes import on_worker_processor

ADDITIONS = 200_000  # about 5 ms
SLOWER = 1.15  # times the fastest loop so far; slower loops are not calm
PATIENCE_SECONDS, PAUSE_SECONDS = 2, 0.05

T = TypeVar("T")


class Calm:
    """Call it on the processor of the load."""

    def __init__(self) -> None:
        self._least_us = math.inf

    def loop_us(self) -> float:
        """Return the loop's CPU time in microseconds, on the slower of the two processors."""
        with on_worker_processor():
            there = _loop_us()
        slower = max(there, _loop_us())
        self._least_us = min(self._least_us, slower)
        return slower

    def awaited(self) -> float:
        """Return the same once the machine is calm, or after PATIENCE_SECONDS."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while (took := self.loop_us()) > SLOWER * self._least_us and time.monotonic() < deadline:
            time.sleep(PAUSE_SECONDS)
        return took


def calmest(runs: Sequence[T], loop: Callable[[T], float]) -> list[T]:
    """Return the quarter of the runs with the fastest loops, at least three."""
    return sorted(runs, key=loop)[: max(3, len(runs) // 4)]


def _loop_us() -> float:
    started, total = time.thread_time_ns(), 0
    for number in range(ADDITIONS):
        total += number
    return (time.thread_time_ns() - started) / 1000
