"""Circuit breaker state in memory that all workers of a node share."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b

import pybreaker

from app.limiter.breaker.node_lock import NodeLock
from app.observability.shared_memory import shared_memory

CLOSED, HALF_OPEN, OPEN = range(3)  # numbered as in the metric
STATE_NAMES = (pybreaker.STATE_CLOSED, pybreaker.STATE_HALF_OPEN, pybreaker.STATE_OPEN)
STATE = 3  # mask of a mark's state bits; the higher bits count transitions
BYTES = 24
MAX_CIRCUITS = 256
LEFT_SECONDS = 60.0  # before the slot of a dropped name can be reused
_MARK, _FAILURES, _UNTIL = range(3)


class Circuit:
    """Made before the fork. Reads need no lock; writes take `lock`.

    Each value is one aligned word, read and written whole. Words are written one at a time; `mark` comes last and
    commits the others. A worker may die between two writes. A suspended worker may later write outdated values. No
    state lasts longer than its `until`, so either costs at most one extra probe.
    """

    def __init__(self, memory: memoryview | None = None, lock: NodeLock | None = None) -> None:
        memory = memory or shared_memory(BYTES)
        self._integers, self._times = memory.cast("Q"), memory.cast("d")
        self.lock = lock or NodeLock()

    @property
    def mark(self) -> int:
        """State and generation in one number, which changes with every transition."""
        return self._integers[_MARK]

    @property
    def failures(self) -> int:
        """Consecutive failures of all workers."""
        return self._integers[_FAILURES]

    @failures.setter
    def failures(self, number: int) -> None:
        self._integers[_FAILURES] = number

    @property
    def until(self) -> float:
        """Monotonic seconds. Open: when to probe. Half open: when an unreported probe is given up."""
        return self._times[_UNTIL]

    @until.setter
    def until(self, seconds: float) -> None:
        self._times[_UNTIL] = seconds

    def become(self, state: int, until: float) -> int:
        """Enter the next generation in this state; return its mark."""
        if state == CLOSED:
            self.failures = 0
        self.until = until
        mark = (self.mark | STATE) + 1 | state
        self._integers[_MARK] = mark
        return mark


class Circuits:
    """Circuits by name, the same for all workers of a node. Made before the fork, when no name is known yet.

    Any worker adds a name. The worker that last read the cluster's map decides which names stay. A dropped name's slot
    is reused after LEFT_SECONDS, long after every worker has followed. While all MAX_CIRCUITS slots are in use, further
    names share slots. Times are monotonic seconds.
    """

    def __init__(self) -> None:
        memory = shared_memory(MAX_CIRCUITS * (BYTES + 16) + 8)
        self._lock = NodeLock()
        circuits, words = memory[: MAX_CIRCUITS * BYTES], memory[MAX_CIRCUITS * BYTES :]
        self._circuits = [
            Circuit(circuits[at : at + BYTES], self._lock) for at in range(0, MAX_CIRCUITS * BYTES, BYTES)
        ]
        self._names = words[: MAX_CIRCUITS * 8].cast("Q")  # hashes; 0 in a slot that was never used
        self._left = words[MAX_CIRCUITS * 8 : MAX_CIRCUITS * 16].cast(
            "d"
        )  # when the name was dropped; 0 while it is in use
        self._changes = words[MAX_CIRCUITS * 16 :].cast("Q")

    @property
    def changes(self) -> int:
        """A number that changes with each `announce` of any worker."""
        return self._changes[0]

    def announce(self) -> None:
        with self._lock:
            self._changes[0] += 1

    def of(self, name: str, now: float) -> Circuit:
        """Return the circuit of this name and mark it as in use."""
        hashed = _hashed(name)
        with self._lock:
            place = self._place(hashed, now)
            self._left[place] = 0.0
            return self._circuits[place]

    def keep(self, names: Iterable[str], now: float) -> None:
        """Keep these names in use and drop all others."""
        kept = {_hashed(name) for name in names}
        with self._lock:
            for place, name in enumerate(self._names):
                self._left[place] = 0.0 if name in kept else self._left[place] or now

    def in_use(self) -> list[Circuit]:
        """Return the circuits of the names in use. No lock: each value is one word."""
        return [self._circuits[place] for place, name in enumerate(self._names) if name and not self._left[place]]

    def _place(self, hashed: int, now: float) -> int:
        names = list(self._names)
        if hashed in names:
            return names.index(hashed)
        free = [place for place, left in enumerate(self._left) if not names[place] or 0 < left < now - LEFT_SECONDS]
        if not free:
            return hashed // 2 % MAX_CIRCUITS
        place = min(free, key=self._left.__getitem__)
        self._circuits[place].become(CLOSED, 0.0)  # clears the state of the previous name
        self._names[place] = hashed
        return place


def _hashed(name: str) -> int:
    return int.from_bytes(blake2b(name.encode(), digest_size=8).digest()) | 1
