"""Postpones full garbage collections while a worker handles thousands of rules.

A full collection visits each item of each large list and dictionary. With 100,000 rules this takes 10 to 30 ms, and
several happen during an import. Collections of young objects continue.
"""

from __future__ import annotations

import gc
from typing import Self

NEVER = 1_000_000_000
MOST_OVERLAPPING = 100  # pieces of work that may end while others run, before one full collection runs anyway


class LongWork:
    """A context manager without full collections, as long as any such work is running."""

    def __init__(self) -> None:
        self._in_hand = 0
        self._ended = 0  # pieces of work that ended since the last idle moment or the last collection

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


long_work = LongWork()  # one per process, as the collector
