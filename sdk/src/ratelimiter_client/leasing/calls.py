"""The trips to the service that leases take."""

from __future__ import annotations

from contextlib import suppress
from typing import Callable

from ratelimiter_client.client import RateLimiter
from ratelimiter_client.errors import RateLimiterError
from ratelimiter_client.http.breaker import log
from ratelimiter_client.leasing.holding import Denial, Key, Permits

BELIEVED_SECONDS = 1.0  # a denial, at most
LOW = 4  # a sign is given when one permit in so many is left


class LeaseCalls:
    """By one client, for leases of `ttl` seconds; `clock` gives monotonic seconds. Nothing is raised."""

    def __init__(self, client: RateLimiter, ttl: float, clock: Callable[[], float]) -> None:
        self._client = client
        self._ttl = round(ttl, 3)  # milliseconds are what the service knows
        self._clock = clock
        self._logged: set[int | None] = set()  # statuses

    def acquire(self, key: Key, size: int, *, sign: bool) -> Permits | Denial | None:
        """At most `size` permits, with a sign or without; None: the service did not decide, or too late for its ttl."""
        until = self._clock() + self._ttl
        try:
            lease = self._client.lease(*key, size, self._ttl)
        except RateLimiterError as error:
            self._tell(error)
            return None
        if lease.lease_id is None:
            return Denial.heard(lease.decision, self._clock(), BELIEVED_SECONDS)
        granted = min(size, lease.granted)
        permits = Permits(lease.lease_id, lease.decision, granted, until, max(1, granted // LOW) if sign else 0)
        if self._clock() < until:
            return permits
        self.give_back(permits)
        return None

    def give_back(self, permits: Permits) -> None:
        """What nobody used. If that fails it counts as used."""
        unused = permits.drain()
        if unused:
            with suppress(RateLimiterError):
                self._client.return_lease(permits.lease_id, unused)

    def _tell(self, error: RateLimiterError) -> None:
        if error.status not in (None, 503, *self._logged):  # of those two the checks will tell
            self._logged.add(error.status)
            log.error("no leases: %s (said once)", error)
