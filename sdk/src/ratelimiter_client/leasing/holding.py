"""What one process holds of one key: permits of leases, or a denial."""

from __future__ import annotations

import math
import threading
from typing import NamedTuple, Tuple, Union

from ratelimiter_client.decision import Decision
from ratelimiter_client.leasing.demand import Demand

Key = Tuple[Union[str, int], str]  # client id, limit key


class Permits:
    """What a lease granted and nobody has used yet, for threads that share no lock.

    `pop()` hands out one permit as the lease's decision, and raises IndexError when there is none. Once, when `low` are
    left, it hands out None instead: whoever gets that sees to the renewal. Whoever has popped may use the permit if the
    clock, read after that, is before `until`. All this rests on list.pop and extend being atomic: under the GIL they
    are, and builds without it lock the list.
    """

    __slots__ = ("_counted", "_left", "_low", "_whole", "lease_id", "pop", "until")

    def __init__(self, lease_id: str, decision: Decision, granted: int, until: float, low: int = 0) -> None:
        self.lease_id = lease_id
        self.until = until
        self._low = low
        self._left: list[Decision | None] = [decision] * granted
        if low:
            self._left.insert(low, None)
        self._whole = self._counted = len(self._left)
        self.pop = self._left.pop

    @property
    def left(self) -> int:
        """At most one more than there are."""
        return len(self._left)

    def is_over(self, now: float) -> bool:
        """Ended or used up."""
        return now >= self.until or not self._left

    @property
    def low(self) -> bool:
        return len(self._left) <= self._low

    @property
    def untouched(self) -> bool:
        return len(self._left) == self._whole

    def take(self, cost: int) -> Decision | None:
        """So many permits, or None and none of them."""
        taken: list[Decision | None] = []
        try:
            while len(taken) < cost <= len(taken) + len(self._left):
                decision = self.pop()
                if decision is not None:
                    taken.append(decision)
        except IndexError:  # others were faster
            pass
        if len(taken) == cost:
            return taken[0]
        self._left.extend(taken)
        return None

    def drain(self) -> int:
        """Take what is left, so that nobody uses it any more; how many permits that were."""
        count = 0
        try:
            while True:
                count += self.pop() is not None
        except IndexError:
            return count

    def used(self) -> int:
        """How many since this was last asked."""
        before, self._counted = self._counted, len(self._left)
        return max(0, before - self._counted)


class Denial(NamedTuple):
    """The service granted nothing: heard at `at`, believed until `until` (seconds of the clock)."""

    decision: Decision
    at: float
    until: float

    @classmethod
    def heard(cls, decision: Decision, now: float, longest: float) -> Denial:
        """Believed until it says that units are there again, `longest` seconds at most."""
        wait = decision.retry_after_ms
        return cls(decision, now, now + (longest if wait is None else min(longest, wait / 1000)))

    def as_of(self, now: float) -> Decision:
        """What the service would say by now: the wait has become shorter."""
        wait = self.decision.retry_after_ms
        if wait is None:
            return self.decision
        return self.decision._replace(retry_after_ms=max(1, wait - int((now - self.at) * 1000)))


class Holding:
    """Of one key, which is a client id and a limit key: at most two leases, the one in use and the next.

    `since`: when the last lease was asked for. `renewal` is locked until the renewal that is under way is over; None
    when none is. After one that failed none is tried before `retry_at`. What is in here is read and changed under a
    lock; permits are used without.
    """

    __slots__ = ("demand", "denial", "key", "leases", "renewal", "retry_at", "since")

    def __init__(self, key: Key, demand: Demand) -> None:
        self.key = key
        self.demand = demand
        self.leases: list[Permits] = []
        self.denial: Denial | None = None
        self.renewal: threading.Lock | None = None
        self.retry_at = self.since = -math.inf

    def count(self, now: float, units: int = 0) -> int:
        """Add to the demand the permits used since, and these units, which no permit covers; how many permits."""
        used = sum(permits.used() for permits in self.leases)
        self.demand.add(used + units, now)
        return used

    @property
    def left(self) -> int:
        return sum(permits.left for permits in self.leases)

    def is_denied(self, now: float) -> bool:
        """Whether there is a denial to be believed."""
        return self.denial is not None and now < self.denial.until
