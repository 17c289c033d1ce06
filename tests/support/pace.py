"""How fast the processor is just now: bounds of processor time are those of a known machine that is idle."""

from __future__ import annotations

import statistics
import time

REFERENCE_SECONDS = 0.0055  # of `_work`, with CPython 3.11 on the machine that the bounds were measured on
TIMES = 7


def slowness() -> float:
    """By which factor the same work takes longer here and now, at least 1. Two processes on one core, a slower core and
    an interpreter built without optimisation all make processor time longer.
    """
    return max(1.0, statistics.median(_work() for _ in range(TIMES)) / REFERENCE_SECONDS)


def _work() -> float:
    began, found = time.thread_time(), dict[int, str]()
    for number in range(50_000):
        found[number % 1000] = str(number)
    return time.thread_time() - began
