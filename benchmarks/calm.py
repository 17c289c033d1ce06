"""How fast the machine is just now: others may share its physical cores, unseen, and make everything twice as dear.

A fixed loop shows it. Runs are judged by the loops before and after them, never by what they measured themselves.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from benchmarks.processes import on_worker_processor

ADDITIONS = 200_000  # 5 ms or so
SLOWER = 1.15  # than the fastest loop so far is not calm
PATIENCE_SECONDS, PAUSE_SECONDS = 2, 0.05

T = TypeVar("T")


class Calm:
    """To be asked where the load will run."""

    def __init__(self) -> None:
        self._least_us = math.inf

    def loop_us(self) -> float:
        """CPU time of the loop, on the slower of the two processors."""
        with on_worker_processor():
            there = _loop_us()
        slower = max(there, _loop_us())
        self._least_us = min(self._least_us, slower)
        return slower

    def awaited(self) -> float:
        """The same once it is calm, or when patience ends."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while (took := self.loop_us()) > SLOWER * self._least_us and time.monotonic() < deadline:
            time.sleep(PAUSE_SECONDS)
        return took


def calmest(runs: Sequence[T], loop: Callable[[T], float]) -> list[T]:
    """The quarter of the runs beside which the loop took the least, or three."""
    return sorted(runs, key=loop)[: max(3, len(runs) // 4)]


def _loop_us() -> float:
    started, total = time.thread_time_ns(), 0
    for number in range(ADDITIONS):
        total += number
    return (time.thread_time_ns() - started) / 1000
