"""The state of a circuit breaker in memory that all workers of a node share."""

from __future__ import annotations

import mmap

import pybreaker

from app.limiter.node_lock import NodeLock

CLOSED, HALF_OPEN, OPEN = range(3)  # as the metric numbers them
NAMES = (pybreaker.STATE_CLOSED, pybreaker.STATE_HALF_OPEN, pybreaker.STATE_OPEN)
STATE = 3  # the bits of a mark that are the state; those above count transitions
_MARK, _FAILURES, _UNTIL = range(3)


class Circuit:
    """Made before the fork. Anybody reads at any time; writing takes `lock`.

    Each value is one aligned word, read and written whole. A worker may die between any two writes: the mark, written
    last, is what says how the others are meant.
    """

    def __init__(self) -> None:
        memory = memoryview(mmap.mmap(-1, 24))
        self._integers, self._times = memory.cast("Q"), memory.cast("d")
        self.lock = NodeLock()

    @property
    def mark(self) -> int:
        """State and generation in one number: another after every transition."""
        return self._integers[_MARK]

    @property
    def failures(self) -> int:
        """In a row, of all workers."""
        return self._integers[_FAILURES]

    @failures.setter
    def failures(self, number: int) -> None:
        self._integers[_FAILURES] = number

    @property
    def until(self) -> float:
        """Monotonic seconds. Open: when to probe. Half open: when a probe that has not reported is given up."""
        return self._times[_UNTIL]

    @until.setter
    def until(self, seconds: float) -> None:
        self._times[_UNTIL] = seconds

    def become(self, state: int, until: float) -> int:
        """The next generation, in this state; its mark."""
        if state == CLOSED:
            self.failures = 0
        self.until = until
        mark = (self.mark | STATE) + 1 | state
        self._integers[_MARK] = mark
        return mark
