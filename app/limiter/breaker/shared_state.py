"""The state of a circuit breaker in memory that all workers of a node share."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b

import pybreaker

from app.limiter.breaker.node_lock import NodeLock
from app.observability.shared_memory import shared_memory

CLOSED, HALF_OPEN, OPEN = range(3)  # as the metric numbers them
NAMES = (pybreaker.STATE_CLOSED, pybreaker.STATE_HALF_OPEN, pybreaker.STATE_OPEN)
STATE = 3  # the bits of a mark that are the state; those above count transitions
BYTES = 24
NAMED = 256
LEFT_SECONDS = 60.0  # before the place of a name that was given up is another's
_MARK, _FAILURES, _UNTIL = range(3)


class Circuit:
    """Made before the fork. Anybody reads at any time; writing takes `lock`.

    Each value is one aligned word, read and written whole. A worker may die between any two writes: the mark, written
    last, is what says how the others are meant. One that was stopped there and goes on may write what was true before:
    no state lasts longer than its `until`, so that costs a probe at most.
    """

    def __init__(self, memory: memoryview | None = None, lock: NodeLock | None = None) -> None:
        memory = memory or shared_memory(BYTES)
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

    The names in use are the node's: any worker adds one, and the worker that reads the cluster's map last says which of
    them stay. A place that was given up is another name's after LEFT_SECONDS; a worker has long followed by then. While
    all NAMED are in use, more names share places. Times are monotonic seconds.
    """

    def __init__(self) -> None:
        memory = shared_memory(NAMED * (BYTES + 16) + 8)
        self._lock = NodeLock()
        circuits, words = memory[: NAMED * BYTES], memory[NAMED * BYTES :]
        self._circuits = [Circuit(circuits[at : at + BYTES], self._lock) for at in range(0, NAMED * BYTES, BYTES)]
        self._names = words[: NAMED * 8].cast("Q")  # hashed; 0 where none ever was
        self._left = words[NAMED * 8 : NAMED * 16].cast("d")  # when the name was given up; 0 while it is in use
        self._changes = words[NAMED * 16 :].cast("Q")

    @property
    def changes(self) -> int:
        """Another number after each `announce` of any worker."""
        return self._changes[0]

    def announce(self) -> None:
        with self._lock:
            self._changes[0] += 1

    def of(self, name: str, now: float) -> Circuit:
        """From now on in use."""
        hashed = _hashed(name)
        with self._lock:
            place = self._place(hashed, now)
            self._left[place] = 0.0
            return self._circuits[place]

    def keep(self, names: Iterable[str], now: float) -> None:
        """These are in use; all others are given up."""
        kept = {_hashed(name) for name in names}
        with self._lock:
            for place, name in enumerate(self._names):
                self._left[place] = 0.0 if name in kept else self._left[place] or now

    def in_use(self) -> list[Circuit]:
        """Those of the names in use; without lock, since each value is one word."""
        return [self._circuits[place] for place, name in enumerate(self._names) if name and not self._left[place]]

    def _place(self, hashed: int, now: float) -> int:
        names = list(self._names)
        if hashed in names:
            return names.index(hashed)
        free = [place for place, left in enumerate(self._left) if not names[place] or 0 < left < now - LEFT_SECONDS]
        if not free:
            return hashed // 2 % NAMED
        place = min(free, key=self._left.__getitem__)
        self._circuits[place].become(CLOSED, 0.0)  # whatever the last user left
        self._names[place] = hashed
        return place


def _hashed(name: str) -> int:
    return int.from_bytes(blake2b(name.encode(), digest_size=8).digest()) | 1
