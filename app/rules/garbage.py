"""When Python looks for garbage: not through everything while a worker has thousands of rules in hand.

A full collection looks at each item of each large list and dictionary, which takes 10 to 30 ms of 100,000 rules, and
happens several times in the course of an import. Collections of young objects go on as always.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from typing import Self

NEVER = 1_000_000_000
OVERDUE_SECONDS = 60.0  # of long works that overlap without end


class LongWork:
    """`with`: no full collection meanwhile, nor while others are in hand. `clock` is monotonic seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._in_hand = 0
        self._since = 0.0

    def __enter__(self) -> Self:
        if not self._in_hand:
            self._usual, self._since = gc.get_threshold(), self._clock()
            gc.set_threshold(*self._usual[:2], NEVER)
        self._in_hand += 1
        return self

    def __exit__(self, *_: object) -> None:
        self._in_hand -= 1
        if not self._in_hand:
            gc.set_threshold(*self._usual)
        elif self._clock() - self._since > OVERDUE_SECONDS:
            gc.collect()
            self._since = self._clock()


long_work = LongWork(time.monotonic)  # the collector is the process's too
