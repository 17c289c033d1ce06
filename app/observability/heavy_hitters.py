"""Who occurs most among any number of items, in bounded memory."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar

Item = TypeVar("Item", bound=Hashable)


class HeavyHitters(Generic[Item]):
    """Counts of the items that occur most (Misra and Gries, 1982), at most `capacity` of them.

    A count is never too high, and too low by at most n / (capacity + 1), n being the number of all occurrences:
    whatever occurs more often than that is among them. Adding costs a look-up; when full, going through all costs no
    more than the additions that filled it.
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
        else:  # one of each different item, this one included, cancel one another
            self._counts = {other: count - 1 for other, count in counts.items() if count > 1}

    def drain(self) -> dict[Item, int]:
        """The counts; from here on it counts from zero."""
        counts, self._counts = self._counts, {}
        return counts
