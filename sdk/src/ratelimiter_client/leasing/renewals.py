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

LEAST = 10  # permits: a smaller lease is not worth its two round trips
RETRY_SECONDS = 1.0  # between a failed attempt to get a lease and the next one
TURN_SECONDS = 0.005  # another thread may have to wait that long for the interpreter (sys.getswitchinterval)
END_SECONDS = 1.0  # for returning everything


class Renewals:
    """Thread-safe. `in_use` is where callers find permits first, without a lock; `clock` gives monotonic seconds.

    A caller that finds no permit acquires a lease itself. The background thread renews leases that run low, so that
    callers need not wait, and returns unused permits.
    """

    def __init__(self, client: RateLimiter, size: int, ttl: float, keys: int, clock: Callable[[], float]) -> None:
        self._size, self._timeout, self._clock = size, client.timeout, clock
        self._least = min(LEAST, size)
        # A lease is returned that long before its end, once the next one has come: the time of two round trips.
        self._early = min(ttl / 4, 2 * client.timeout)
        self._calls = LeaseCalls(client, ttl, clock)
        self._holdings = Holdings(keys, lambda now: Demand(ttl, size, now))
        self.in_use: dict[Key, Permits] = self._holdings.in_use
        self._lock = threading.Lock()  # never held while anything waits
        self._wanted: OrderedDict[Holding, threading.Lock] = OrderedDict()  # renewals that no thread has begun
        self.background = BackgroundThread(self._turn, self._end, END_SECONDS + 2 * client.timeout)

    def decide(self, key: Key, cost: int) -> Decision | None:
        """Decide by the permits or the denial at hand, or by those of a renewal; None: let the service decide.

        Waits for the renewal of another thread, but not longer than for the service.
        """
        waited_for: list[threading.Lock] = []
        try:
            return self._decide(key, cost, waited_for)
        finally:
            for renewal in waited_for:  # released only now: a waiter that woke earlier would have found nothing
                renewal.release()

    def _decide(self, key: Key, cost: int, waited_for: list[threading.Lock]) -> Decision | None:
        give_up = self._clock() + self._timeout
        first = True  # a call renews at most once: waiting, renewing and checking would take three timeouts
        while not self.background.stopped:
            with self._lock:
                now = self._clock()
                holding = self._holdings.of(key, now)
                if self._holdings.unused:
                    self.background.wake()
                decision = self._at_hand(holding, cost, now)
                if decision is not None:
                    return decision
                renewal = holding.renewal
                hope = renewal or (first and self._size_of_next(holding, now, cost) and self.background.runs())
                if now >= give_up or not hope:
                    holding.count(now, cost)
                    return None
                mine = self._begin(holding) if first else None
            if mine is not None:
                self._renew(holding, mine, cost)
            elif renewal is not None and renewal.acquire(timeout=give_up - now):
                waited_for.append(renewal)
            # The renewing thread is gone or out of time: no round trip takes as long.
            elif renewal is not None and first:
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
        # A check of more units would have to wait longer.
        if holding.denial is None or not holding.is_denied(now) or cost > 1:
            return None
        holding.count(now, cost)
        return holding.denial.as_of(now)

    def _want(self, holding: Holding, now: float) -> None:
        """Let the background thread renew, if there is demand and no obstacle."""
        if holding.renewal is None and self._size_of_next(holding, now):
            self._wanted[holding] = holding.renewal = locked()
            self.background.wake()

    def _begin(self, holding: Holding) -> threading.Lock | None:
        """The renewal for this caller to make; None if another thread makes it."""
        if holding.renewal is not None:
            return self._wanted.pop(holding, None)
        holding.renewal = locked()
        return holding.renewal

    def _size_of_next(self, holding: Holding, now: float, cost: int = 0) -> int:
        """Permits to request: as many as are used in a ttl, at most `size` with those at hand. 0: request no lease."""
        if self.background.stopped or now < holding.retry_at or holding.is_denied(now) or len(holding.leases) > 1:
            return 0
        holding.count(now)
        units = holding.demand.units + cost
        if units < self._least * max(1, cost):
            return 0
        return max(0, min(math.ceil(units), self._size - holding.left))

    def _renew(self, holding: Holding, renewal: threading.Lock, cost: int = 0) -> None:
        """Carry out a renewal that has begun; it is over on return."""
        try:
            with self._lock:
                sent = self._clock()
                size = self._size_of_next(holding, sent, cost)
                # A lease that is used up faster needs no sign: the thread would read it too late.
                sign = sent - holding.since > TURN_SECONDS
            if size:
                self._found(holding, self._calls.acquire(holding.key, size, sign=sign), sent)
        finally:
            self._over(holding, renewal)
        if self.background.stopped:  # the background thread may have ended meanwhile
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
                    self.background.wake()

    def _over(self, holding: Holding, renewal: threading.Lock) -> None:
        """End the renewal. Only the first call has an effect."""
        with self._lock:
            if self._holdings.unused:
                self.background.wake()
            if holding.renewal is not renewal:
                return
            holding.renewal = None
            self._wanted.pop(holding, None)
        renewal.release()

    def _turn(self) -> float | None:
        """Do the due work, but at most one of the wanted renewals: ending leases must not wait behind them."""
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
        """Return the rest of an ending lease, after acquiring the next one if there is demand."""
        with self._lock:
            in_demand = any(not permits.untouched for permits in holding.leases)
            renewal = self._begin(holding) if in_demand else None
        if renewal is not None:
            self._renew(holding, renewal)
        with self._lock:
            now = self._clock()
            if now >= holding.retry_at:  # otherwise the service is out of reach, and its permits are used to the end
                self._holdings.give_back(holding, now + self._early)

    def _end(self) -> None:
        with self._lock:
            held = self._holdings.clear()
        for holding in held:
            if (renewal := holding.renewal) is not None:
                self._over(holding, renewal)
        self._return_unused(self._clock() + END_SECONDS)

    def _return_unused(self, give_up: float) -> None:
        while self._clock() < give_up and not self.background.abandoned:
            try:
                permits = self._holdings.unused.popleft()
            except IndexError:
                return
            self._calls.give_back(permits)
