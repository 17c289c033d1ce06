"""AsyncRateLimiter: RateLimiter for the tasks of an event loop."""

from __future__ import annotations

import asyncio
import time
from typing import Any, Callable, Iterable

from ratelimiter_client.aio.service import AsyncService
from ratelimiter_client.arguments import FailMode
from ratelimiter_client.asking import Asking, Item, bound
from ratelimiter_client.decision import Check, Decision, Groups, Lease, Name
from ratelimiter_client.decorator import Cost, F, Many, Who, limited
from ratelimiter_client.errors import RateLimiterError
from ratelimiter_client.health import Health
from ratelimiter_client.http.endpoint import Endpoint
from ratelimiter_client.undecided import OnUndecided
from ratelimiter_client.waiting import pause_after, seconds


class AsyncRateLimiter(Asking[AsyncService]):
    """A RateLimiter whose methods are awaited. One for the whole application: tasks, event loops and forks may share
    it.

    It uses threads only to look up a host's name; an address needs none, and here the timeout covers the look-up.
    `max_connections`: of one event loop at a time; further tasks wait, which the timeout covers too.
    """

    def __init__(
        self,
        url: str,
        api_key: str | None = None,
        timeout: float = 0.05,
        fail_mode: FailMode = "open",
        *,
        retry: bool = True,
        ca_file: str | None = None,
        max_idle_connections: int = 16,
        max_connections: int = 100,
        on_undecided: OnUndecided = None,
    ) -> None:
        super().__init__(url, timeout, fail_mode, retry, on_undecided)
        bound("max_idle_connections", max_idle_connections, 0)
        bound("max_connections", max_connections, 1)
        self._service = AsyncService(
            Endpoint(url, api_key, ca_file),
            timeout=timeout,
            max_idle=max_idle_connections,
            max_connections=max_connections,
            undecided=self._new_undecided,
        )

    async def check(
        self,
        client_id: Name,
        limit_key: Name = "global",
        cost: int = 1,
        *,
        groups: Groups = (),
        request_id: Name | None = None,
        correlation_id: str | None = None,
        traceparent: str | None = None,
    ) -> Decision:
        """As RateLimiter.check."""
        check = Check(client_id, limit_key, cost, request_id, groups)
        trip = self._check_trip(check, correlation_id, traceparent)
        if isinstance(trip, Decision):
            return trip
        try:
            return self._decided(trip, await self._service.ask(trip))
        except RateLimiterError as error:
            return self._undecided(error)

    async def peek(self, client_id: Name, limit_key: Name = "global", *, groups: Groups = ()) -> Decision:
        """As RateLimiter.peek."""
        return await self.check(client_id, limit_key, 0, groups=groups)

    async def wait(
        self, client_id: Name, limit_key: Name = "global", cost: int = 1, *, at_most: float, groups: Groups = ()
    ) -> Decision:
        """As RateLimiter.wait; other tasks go on meanwhile."""
        give_up = time.monotonic() + seconds(at_most)
        while True:
            decision = await self.check(client_id, limit_key, cost, groups=groups)
            pause = pause_after(decision, give_up - time.monotonic())
            if pause is None:
                return decision
            await asyncio.sleep(pause)

    async def check_many(self, checks: Iterable[Item]) -> list[Decision]:
        """As RateLimiter.check_many."""
        decisions: list[Decision] = []
        for places, trip in self._batch_trips(checks, decisions):
            try:
                results = await self._service.ask(trip)
            except RateLimiterError as error:
                results = [*[error] * len(places)]
            self._put(decisions, places, results)
        return decisions

    async def check_together(
        self, checks: Iterable[Item], *, correlation_id: str | None = None, traceparent: str | None = None
    ) -> list[Decision]:
        """As RateLimiter.check_together."""
        asked = self._together_trip(checks, correlation_id, traceparent)
        if isinstance(asked, list):
            return asked
        trip, limit_keys = asked
        try:
            results = await self._service.ask(trip)
        except RateLimiterError as error:
            results = [*[error] * len(limit_keys)]
        return self._decided_together(limit_keys, results)

    async def lease(self, client_id: Name, limit_key: Name, permits: int, ttl: float, *, groups: Groups = ()) -> Lease:
        """As RateLimiter.lease. Raises RateLimiterError whatever the fail mode."""
        trip = self._lease_trip(client_id, limit_key, permits, ttl, groups)
        return trip if isinstance(trip, Lease) else await self._service.ask(trip)

    async def return_lease(self, lease_id: str, unused: int) -> int:
        """As RateLimiter.return_lease. Raises RateLimiterError whatever the fail mode."""
        return await self._service.ask(self._return_trip(lease_id, unused))

    def limit(
        self,
        limit_key: str = "global",
        *,
        identify: Who,
        cost: Cost = 1,
        groups: Many = (),
        on_denied: Callable[[Decision], Any] | None = None,
    ) -> Callable[[F], F]:
        """As RateLimiter.limit, for async functions. Functions among the arguments are not async."""
        return limited(self.check, limit_key, identify=identify, cost=cost, groups=groups, on_denied=on_denied)

    async def health(self) -> Health:
        """As RateLimiter.health."""
        try:
            return self._health(None, (await self._service.probe(self._health_trip())).degraded)
        except RateLimiterError as error:
            return self._health(str(error), False)

    async def close(self) -> None:
        """Close the idle connections of this event loop. A later call opens a new one."""
        self._service.process.undecided.flush()
        self._service.process.connections.close()

    async def __aenter__(self) -> AsyncRateLimiter:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
