"""The leases of one process: acquired, renewed and returned while callers use the permits."""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from typing import Callable

from ratelimiter_client.client import RateLimiter
from ratelimiter_client.decision import Decision
from ratelimiter_client.leasing.background import BackgroundThread, locked
from ratelimiter_client.leasing.calls import LeaseCalls
from ratelimiter_client.leasing.demand import Demand
from ratelimiter_client.leasing.holding import Denial, Holding, Key, Permits
from ratelimiter_client.leasing.holdings import Holdings

LEAST = 10  # permits: for fewer a lease and its return are not worth their two trips
RETRY_SECONDS = 1.0  # from a lease that could not be had to the next try
TURN_SECONDS = 0.005  # another thread may have to wait that long for its turn (sys.getswitchinterval)
END_SECONDS = 1.0  # for returning everything


class Renewals:
    """Thread-safe. `in_use` is where callers find permits first, without a lock; `clock` gives monotonic seconds.

    Who finds nothing acquires a lease himself. A thread renews what is running low, so that nobody has to wait, and
    returns what is not used.
    """

    def __init__(self, client: RateLimiter, size: int, ttl: float, keys: int, clock: Callable[[], float]) -> None:
        self._size, self._timeout, self._clock = size, client.timeout, clock
        self._least = min(LEAST, size)
        # A lease goes back that long before its end, after the next one has come: two trips, each as long as it may be.
        self._early = min(ttl / 4, 2 * client.timeout)
        self._calls = LeaseCalls(client, ttl, clock)
        self._holdings = Holdings(keys, lambda now: Demand(ttl, size, now))
        self.in_use = self._holdings.in_use
        self._lock = threading.Lock()  # never held while anything waits
        self._wanted: OrderedDict[Holding, threading.Lock] = OrderedDict()  # renewals that nobody has begun
        self.upkeep = BackgroundThread(self._turn, self._end, END_SECONDS + 2 * client.timeout)

    def decide(self, key: Key, cost: int) -> Decision | None:
        """By the permits or the denial at hand, or by those of a renewal; None: let the service decide.

        Waits for the renewal of another thread, but not longer than for the service.
        """
        waited_for: list[threading.Lock] = []
        try:
            return self._decide(key, cost, waited_for)
        finally:
            for renewal in waited_for:  # only now the next in line wakes up, who would have found nothing before
                renewal.release()

    def _decide(self, key: Key, cost: int, waited_for: list[threading.Lock]) -> Decision | None:
        give_up = self._clock() + self._timeout
        first = True  # later he begins no renewal: with the wait before, and the check after it, it were three timeouts
        while not self.upkeep.stopped:
            with self._lock:
                now = self._clock()
                holding = self._holdings.of(key, now)
                if self._holdings.unused:
                    self.upkeep.wake()
                decision = self._at_hand(holding, cost, now)
                if decision is not None:
                    return decision
                renewal = holding.renewal
                hope = renewal or (first and self._size_of_next(holding, now, cost) and self.upkeep.runs())
                if now >= give_up or not hope:
                    holding.count(now, cost)
                    return None
                mine = self._begin(holding) if first else None
            if mine is not None:
                self._renew(holding, mine, cost)
            elif renewal is not None and renewal.acquire(timeout=give_up - now):
                waited_for.append(renewal)
            elif renewal is not None and first:  # who began it is gone, or has no time left: no trip takes as long
                self._over(holding, renewal)
            first = False
        return None

    def _at_hand(self, holding: Holding, cost: int, now: float) -> Decision | None:
        for permits in holding.leases:
            decision = permits.take(cost)
            if permits.low:
                self._want(holding, now)
            if decision is not None and self._clock() < permits.until:
                return decision
        if holding.denial is None or not holding.is_denied(now) or cost > 1:  # more units would have to wait longer
            return None
        holding.count(now, cost)
        return holding.denial.as_of(now)

    def _want(self, holding: Holding, now: float) -> None:
        """Have it renewed by the thread, if there is demand and nothing against it."""
        if holding.renewal is None and self._size_of_next(holding, now):
            self._wanted[holding] = holding.renewal = locked()
            self.upkeep.wake()

    def _begin(self, holding: Holding) -> threading.Lock | None:
        """Its renewal, if that is the caller's to do, and nobody else's."""
        if holding.renewal is not None:
            return self._wanted.pop(holding, None)
        holding.renewal = locked()
        return holding.renewal

    def _size_of_next(self, holding: Holding, now: float, cost: int = 0) -> int:
        """As many permits as are used in a ttl, and at most `size` with those at hand; 0 where none should be had."""
        if self.upkeep.stopped or now < holding.retry_at or holding.is_denied(now) or len(holding.leases) > 1:
            return 0
        holding.count(now)
        units = holding.demand.units + cost
        if units < self._least * max(1, cost):
            return 0
        return max(0, min(math.ceil(units), self._size - holding.left))

    def _renew(self, holding: Holding, renewal: threading.Lock, cost: int = 0) -> None:
        """Begun before; over when this returns."""
        try:
            with self._lock:
                sent = self._clock()
                size = self._size_of_next(holding, sent, cost)
                sign = sent - holding.since > TURN_SECONDS  # else it is used up before the thread has read the sign
            if size:
                self._found(holding, self._calls.acquire(holding.key, size, sign=sign), sent)
        finally:
            self._over(holding, renewal)
        if self.upkeep.stopped:  # the thread may have ended meanwhile
            self._return_unused(math.inf)

    def _found(self, holding: Holding, found: Permits | Denial | None, sent: float) -> None:
        with self._lock:
            if found is None:
                holding.retry_at = self._clock() + RETRY_SECONDS
            elif isinstance(found, Denial):
                holding.denial = found
            else:
                holding.since = sent
                if self._holdings.add(holding, found):
                    self.upkeep.wake()

    def _over(self, holding: Holding, renewal: threading.Lock) -> None:
        """Once, whoever says so first."""
        with self._lock:
            if self._holdings.unused:
                self.upkeep.wake()
            if holding.renewal is not renewal:
                return
            holding.renewal = None
            self._wanted.pop(holding, None)
        renewal.release()

    def _turn(self) -> float | None:
        """What is due, but one renewal at most of those wanted: what ends must not wait behind them."""
        self._return_unused(math.inf)
        with self._lock:
            ending = self._holdings.ending(self._clock() + self._early)
        for holding in ending:
            self._replace(holding)
            self._return_unused(math.inf)
        with self._lock:
            wanted = self._wanted.popitem(last=False) if self._wanted else None
        if wanted is not None:
            self._renew(*wanted)
        if self._wanted or self._holdings.unused:
            return 0
        due = self._holdings.first_end - self._early
        return None if due == math.inf else due - self._clock()

    def _replace(self, holding: Holding) -> None:
        """Of a lease that is ending the rest goes back, when there is another one where that is wanted."""
        with self._lock:
            in_demand = any(not permits.untouched for permits in holding.leases)
            renewal = self._begin(holding) if in_demand else None
        if renewal is not None:
            self._renew(holding, renewal)
        with self._lock:
            now = self._clock()
            if now >= holding.retry_at:  # else the service cannot be reached: what it granted is used to the end
                self._holdings.give_back(holding, now + self._early)

    def _end(self) -> None:
        with self._lock:
            held = self._holdings.clear()
        for holding in held:
            if (renewal := holding.renewal) is not None:
                self._over(holding, renewal)
        self._return_unused(self._clock() + END_SECONDS)

    def _return_unused(self, give_up: float) -> None:
        while self._clock() < give_up and not self.upkeep.abandoned:
            try:
                permits = self._holdings.unused.popleft()
            except IndexError:
                return
            self._calls.give_back(permits)
