"""Permits or a denial of one key, held by one process."""

from __future__ import annotations

import math
import threading
from typing import Callable, NamedTuple, Tuple, Union

from ratelimiter_client.decision import Decision
from ratelimiter_client.leasing.demand import Demand

# Client id and limit key, and the groups where there are any.
Key = Union[Tuple[Union[str, int], str], Tuple[Union[str, int], str, Tuple[str, ...]]]


class Permits:
    """The unused permits of a lease, for threads that share no lock.

    `pop()` returns one permit as the lease's decision, and raises IndexError when there is none. Once, when `low` are
    left, it returns None instead: that caller has to start the renewal. A popped permit is valid if the clock, read
    after the pop, is before `until`.

    All this relies on list.pop and extend being atomic: under the GIL they are, and builds without it lock the list.
    """

    __slots__ = ("_counted", "_left", "_low", "_whole", "lease_id", "pop", "until")

    def __init__(self, lease_id: str, decision: Decision, granted: int, until: float, low: int = 0) -> None:
        self.lease_id: str = lease_id
        self.until: float = until
        self._low = low
        self._left: list[Decision | None] = [decision] * granted
        if low:
            self._left.insert(low, None)
        self._whole = self._counted = len(self._left)
        self.pop: Callable[[], Decision | None] = self._left.pop

    @property
    def left(self) -> int:
        """The number of permits left, or one more."""
        return len(self._left)

    def is_over(self, now: float) -> bool:
        """Whether the lease has ended or is used up."""
        return now >= self.until or not self._left

    @property
    def low(self) -> bool:
        return len(self._left) <= self._low

    @property
    def untouched(self) -> bool:
        return len(self._left) == self._whole

    def take(self, cost: int) -> Decision | None:
        """Take `cost` permits and return the decision; None if there are fewer, and none is taken."""
        taken: list[Decision | None] = []
        try:
            while len(taken) < cost <= len(taken) + len(self._left):
                decision = self.pop()
                if decision is not None:
                    taken.append(decision)
        except IndexError:  # other threads were faster
            pass
        if len(taken) == cost:
            return taken[0]
        self._left.extend(taken)
        return None

    def drain(self) -> int:
        """Take all permits that are left, so that no thread uses them any more. Returns their number."""
        count = 0
        try:
            while True:
                count += self.pop() is not None
        except IndexError:
            return count

    def used(self) -> int:
        """The number of permits used since the last call."""
        before, self._counted = self._counted, len(self._left)
        return max(0, before - self._counted)


class Denial(NamedTuple):
    """The service granted nothing: received at `at`, believed until `until` (seconds of the clock)."""

    decision: Decision
    at: float
    until: float

    @classmethod
    def heard(cls, decision: Decision, now: float, longest: float) -> Denial:
        """A denial that is believed until units are available again, `longest` seconds at most."""
        wait = decision.retry_after_ms
        return cls(decision, now, now + (longest if wait is None else min(longest, wait / 1000)))

    def as_of(self, now: float) -> Decision:
        """The decision that the service would give at `now`, with a shorter wait."""
        wait = self.decision.retry_after_ms
        if wait is None:
            return self.decision
        return self.decision._replace(retry_after_ms=max(1, wait - int((now - self.at) * 1000)))


class Holding:
    """The state of one key: at most two leases, the one in use and the next.

    `since`: when the last lease was requested. `renewal`: a lock that is held while a renewal is under way; None
    without one. `retry_at`: no renewal before this time, after a failed one. A lock guards all reads and changes, but
    permits are used without it.
    """

    __slots__ = ("demand", "denial", "key", "leases", "renewal", "retry_at", "since")

    def __init__(self, key: Key, demand: Demand) -> None:
        self.key: Key = key
        self.demand: Demand = demand
        self.leases: list[Permits] = []
        self.denial: Denial | None = None
        self.renewal: threading.Lock | None = None
        self.retry_at: float = -math.inf
        self.since: float = -math.inf

    def count(self, now: float, units: int = 0) -> int:
        """Add used permits to the demand, and `units` that no permit covered. Returns the number of permits used."""
        used = sum(permits.used() for permits in self.leases)
        self.demand.add(used + units, now)
        return used

    @property
    def left(self) -> int:
        return sum(permits.left for permits in self.leases)

    def is_denied(self, now: float) -> bool:
        """Whether a denial is still believed."""
        return self.denial is not None and now < self.denial.until
