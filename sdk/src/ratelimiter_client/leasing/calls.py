"""The round trips of leases to the service."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, Callable

from ratelimiter_client.client import RateLimiter
from ratelimiter_client.errors import RateLimiterError
from ratelimiter_client.http.breaker import log
from ratelimiter_client.leasing.holding import Denial, Key, Permits

BELIEVED_SECONDS = 1.0  # the longest time for which a denial is believed
LOW = 4  # the sign is given when a quarter of the permits is left


class LeaseCalls:
    """Calls by one client, for leases of `ttl` seconds; `clock` gives monotonic seconds. Nothing is raised."""

    def __init__(self, client: RateLimiter, ttl: float, clock: Callable[[], float]) -> None:
        self._client = client
        self._ttl = round(ttl, 3)  # the service counts in milliseconds
        self._clock = clock
        self._logged: set[int | None] = set()  # statuses

    def acquire(self, key: Key, size: int, *, sign: bool) -> Permits | Denial | None:
        """At most `size` permits, with or without a sign of running low; None: the service did not decide, or not
        within the ttl.
        """
        until = self._clock() + self._ttl
        try:
            lease = self._client.lease(key[0], key[1], size, self._ttl, **_groups_of(key))
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
        """Return unused permits. If that fails they count as used."""
        unused = permits.drain()
        if unused:
            with suppress(RateLimiterError):
                self._client.return_lease(permits.lease_id, unused)

    def _tell(self, error: RateLimiterError) -> None:
        if error.status not in (None, 503, *self._logged):  # checks report these two themselves
            self._logged.add(error.status)
            log.error("no leases: %s (said once)", error)


def _groups_of(key: Key) -> dict[str, Any]:
    return {"groups": key[2]} if len(key) == 3 else {}
