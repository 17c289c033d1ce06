"""The state of a circuit breaker in memory that all workers of a node share."""

from __future__ import annotations

import mmap
from hashlib import blake2b

import pybreaker

from app.limiter.node_lock import NodeLock

CLOSED, HALF_OPEN, OPEN = range(3)  # as the metric numbers them
NAMES = (pybreaker.STATE_CLOSED, pybreaker.STATE_HALF_OPEN, pybreaker.STATE_OPEN)
STATE = 3  # the bits of a mark that are the state; those above count transitions
BYTES = 24
NAMED = 256
_MARK, _FAILURES, _UNTIL = range(3)


class Circuit:
    """Made before the fork. Anybody reads at any time; writing takes `lock`.

    Each value is one aligned word, read and written whole. A worker may die between any two writes: the mark, written
    last, is what says how the others are meant. One that was stopped there and goes on may write what was true before:
    no state lasts longer than its `until`, so that costs a probe at most.
    """

    def __init__(self, memory: memoryview | None = None, lock: NodeLock | None = None) -> None:
        memory = memory or memoryview(mmap.mmap(-1, BYTES))
        self._integers, self._times = memory.cast("Q"), memory.cast("d")
        self.lock = lock or NodeLock()

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


class Circuits:
    """Circuits by name, of which all workers of a node find the same: made before the fork, when no name is known yet.

    Names are never given up, since another worker may still use them: after NAMED of them new ones share what there
    is. A circuit that was left open by the last user of its place lets a probe pass, and closes.
    """

    def __init__(self) -> None:
        memory = memoryview(mmap.mmap(-1, NAMED * (BYTES + 8)))
        lock = NodeLock()
        places = [memory[place * BYTES : (place + 1) * BYTES] for place in range(NAMED)]
        self._circuits = [Circuit(place, lock) for place in places]
        self._names = memory[NAMED * BYTES :].cast("Q")  # hashed; 0 where there is room
        self._lock = lock

    def of(self, name: str) -> Circuit:
        hashed = int.from_bytes(blake2b(name.encode(), digest_size=8).digest()) | 1
        with self._lock:
            for place, taken in enumerate(self._names):
                if taken in (hashed, 0):
                    self._names[place] = hashed
                    return self._circuits[place]
        return self._circuits[hashed // 2 % NAMED]
