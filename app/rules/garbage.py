"""When Python looks for garbage: not through everything while a worker has thousands of rules in hand.

A full collection looks at each item of each large list and dictionary, which takes 10 to 30 ms of 100,000 rules, and
happens several times in the course of an import. Collections of young objects go on as always.
"""

from __future__ import annotations

import gc
from typing import Self

NEVER = 1_000_000_000
MOST_OVERLAPPING = 100  # works that end while others go on, before one full collection runs all the same


class LongWork:
    """`with`: no full collection meanwhile, nor while others are in hand."""

    def __init__(self) -> None:
        self._in_hand = 0
        self._ended = 0  # since the last moment with none in hand, or the last collection

    def __enter__(self) -> Self:
        if not self._in_hand:
            self._usual, self._ended = gc.get_threshold(), 0
            gc.set_threshold(*self._usual[:2], NEVER)
        self._in_hand += 1
        return self

    def __exit__(self, *_: object) -> None:
        self._in_hand -= 1
        self._ended += 1
        if not self._in_hand:
            gc.set_threshold(*self._usual)
        elif self._ended >= MOST_OVERLAPPING:
            gc.collect()
            self._ended = 0


long_work = LongWork()  # the collector is the process's too
