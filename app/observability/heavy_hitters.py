"""The most frequent items of a stream, in bounded memory."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar

Item = TypeVar("Item", bound=Hashable)


class HeavyHitters(Generic[Item]):
    """Counts the most frequent items (Misra and Gries, 1982), at most `capacity` of them.

    A count is never too high, and too low by at most n / (capacity + 1) for n occurrences in all. So every more
    frequent item is among them. An addition costs one look-up. A pass over a full table costs no more than the
    additions that filled it.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._counts: dict[Item, int] = {}

    def add(self, item: Item) -> None:
        counts = self._counts
        count = counts.get(item)
        if count is not None:
            counts[item] = count + 1
        elif len(counts) < self._capacity:
            counts[item] = 1
        else:  # one occurrence of each distinct item, this one included, cancels out
            self._counts = {other: count - 1 for other, count in counts.items() if count > 1}

    def drain(self) -> dict[Item, int]:
        """Return the counts, and start again from zero."""
        counts, self._counts = self._counts, {}
        return counts
