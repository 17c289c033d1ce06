"""AsyncRateLimiter: RateLimiter for the tasks of an event loop."""

from __future__ import annotations

from typing import Iterable

from ratelimiter_client.aio.service import AsyncService
from ratelimiter_client.asking import Asking, Item, bound
from ratelimiter_client.decision import Check, Decision, Lease
from ratelimiter_client.endpoint import Endpoint
from ratelimiter_client.errors import RateLimiterError


class AsyncRateLimiter(Asking):
    """As RateLimiter, to be awaited. One for the whole application: tasks, event loops and forks may share it.

    Uses no threads, but for the look-up of a host's name (an address needs none), which the timeout covers here.
    `max_connections`: of one event loop at a time; a task beyond them waits, which the timeout covers too.
    """

    _service: AsyncService

    def __init__(
        self,
        url: str,
        api_key: str | None = None,
        timeout: float = 0.05,
        fail_mode: str = "open",
        *,
        retry: bool = True,
        ca_file: str | None = None,
        max_idle_connections: int = 16,
        max_connections: int = 100,
    ) -> None:
        super().__init__(timeout, fail_mode, retry)
        bound("max_idle_connections", max_idle_connections, 0)
        bound("max_connections", max_connections, 1)
        self._service = AsyncService(
            Endpoint(url, api_key, ca_file),
            timeout=timeout,
            max_idle=max_idle_connections,
            max_connections=max_connections,
        )

    async def check(
        self,
        client_id: str | int,
        limit_key: str = "global",
        cost: int = 1,
        *,
        request_id: str | None = None,
        correlation_id: str | None = None,
        traceparent: str | None = None,
    ) -> Decision:
        """As RateLimiter.check."""
        try:
            check = Check(client_id, limit_key, cost, request_id)
            return await self._service.ask(self._check_trip(check, correlation_id, traceparent))
        except RateLimiterError as error:
            return self._undecided(error)

    async def peek(self, client_id: str | int, limit_key: str = "global") -> Decision:
        """As RateLimiter.peek."""
        return await self.check(client_id, limit_key, 0)

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

    async def lease(self, client_id: str | int, limit_key: str, permits: int, ttl: float) -> Lease:
        """As RateLimiter.lease. Raises RateLimiterError whatever the fail mode."""
        return await self._service.ask(self._lease_trip(client_id, limit_key, permits, ttl))

    async def return_lease(self, lease_id: str, unused: int) -> int:
        """As RateLimiter.return_lease. Raises RateLimiterError whatever the fail mode."""
        return await self._service.ask(self._return_trip(lease_id, unused))

    async def close(self) -> None:
        """Close the connections of this event loop that wait. A later call opens a new one."""
        self._service.process.connections.close()

    async def __aenter__(self) -> AsyncRateLimiter:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
