"""RateLimiter: asks the service, within a time, and has an answer whatever happens."""

from __future__ import annotations

from typing import Any, Callable, Iterable

from ratelimiter_client.arguments import FailMode
from ratelimiter_client.asking import Asking, Item, bound
from ratelimiter_client.decision import Check, Decision, Lease, Name
from ratelimiter_client.decorator import Cost, F, Who, limited
from ratelimiter_client.errors import RateLimiterError
from ratelimiter_client.health import Health
from ratelimiter_client.http.endpoint import Endpoint
from ratelimiter_client.http.service import Service
from ratelimiter_client.undecided import OnUndecided
from ratelimiter_client.waiting import admitted


class RateLimiter(Asking):
    """A client of the service at `url`. One for the whole application: threads, greenlets and forks may share it.

    `timeout`: seconds for a call, connecting and a second attempt included. `fail_mode`: what a check is when the
    service does not decide it: "open" (allowed), "closed" (denied) or "raise" (RateLimiterError). `retry`: give each
    check an id, by which it is charged once though it is sent again, over a new connection, where the first one broke.
    `ca_file`: certificates to trust instead of the system's. `on_undecided`: called with the RateLimiterError of each
    check that the service did not decide. Raises ValueError or TypeError for a wrong argument.
    """

    _service: Service

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
        on_undecided: OnUndecided = None,
    ) -> None:
        super().__init__(url, timeout, fail_mode, retry, on_undecided)
        bound("max_idle_connections", max_idle_connections, 0)
        self._service = Service(
            Endpoint(url, api_key, ca_file),
            timeout=timeout,
            max_idle=max_idle_connections,
            undecided=self._new_undecided,
        )

    def check(
        self,
        client_id: Name,
        limit_key: Name = "global",
        cost: int = 1,
        *,
        request_id: Name | None = None,
        correlation_id: str | None = None,
        traceparent: str | None = None,
    ) -> Decision:
        """May the client do this now? If so, its `cost` (0 to 10^9 units) has been charged.

        Names are text, integers or UUIDs, each by its text; one that the service would refuse (empty, too long, control
        characters) is counted by its SHA-256 digest. A cost out of range is denied, whatever the fail mode. Raises
        TypeError for anything else. `request_id` (1-64 of A-Z a-z 0-9 . _ -, any other by its digest): the same within
        a minute is the same check, charged once; so let no caller choose it. With another cost or key it is denied.
        `correlation_id` (of the same characters) and the W3C `traceparent` are sent along where they are well-formed.
        """
        check = Check(client_id, limit_key, cost, request_id)
        trip = self._check_trip(check, correlation_id, traceparent)
        if isinstance(trip, Decision):
            return trip
        try:
            return self._decided(trip, self._service.ask(trip))
        except RateLimiterError as error:
            return self._undecided(error)

    def peek(self, client_id: Name, limit_key: Name = "global") -> Decision:
        """What is left, in `remaining`. Charges nothing; `allowed` is true also where nothing is left."""
        return self.check(client_id, limit_key, 0)

    def wait(self, client_id: Name, limit_key: Name = "global", cost: int = 1, *, at_most: float) -> Decision:
        """Check until it is admitted, sleeping between as long as the service says, for `at_most` seconds.

        The last decision: a denial at once where waiting does not help, or would take longer.
        """
        return admitted(lambda: self.check(client_id, limit_key, cost), at_most)

    def check_many(self, checks: Iterable[Item]) -> list[Decision]:
        """Many checks in one trip (one for every 1,000 or 250 kB), decisions in the same order.

        Each is a Check, or a tuple or mapping of its fields. They are independent: one that is denied changes nothing
        about the others. Raises TypeError, before anything is sent, where `check` would. The timeout is each trip's.
        Their decisions have no `headers`.
        """
        decisions: list[Decision] = []
        for places, trip in self._batch_trips(checks, decisions):
            try:
                results = self._service.ask(trip)
            except RateLimiterError as error:
                results = [*[error] * len(places)]
            self._put(decisions, places, results)
        return decisions

    def lease(self, client_id: Name, limit_key: Name, permits: int, ttl: float) -> Lease:
        """Charge up to `permits` (1 to 10^9) units at once, to be spent within `ttl` seconds (0.001 to 3600).

        As many are granted as every limit has left, maybe none; none where `permits` is out of range. Never sent twice.
        Raises RateLimiterError whatever the fail mode, TypeError and ValueError for other arguments.
        """
        trip = self._lease_trip(client_id, limit_key, permits, ttl)
        return trip if isinstance(trip, Lease) else self._service.ask(trip)

    def return_lease(self, lease_id: str, unused: int) -> int:
        """Give back permits of a lease; how many were credited: fewer, or none, where their window has ended.

        Safe to repeat. Raises RateLimiterError whatever the fail mode, of status 404 for a lease that is over;
        TypeError and ValueError for what is no lease's id or no number of permits.
        """
        return self._service.ask(self._return_trip(lease_id, unused))

    def limit(
        self,
        limit_key: str = "global",
        *,
        identify: Who,
        cost: Cost = 1,
        on_denied: Callable[[Decision], Any] | None = None,
    ) -> Callable[[F], F]:
        """A decorator: every call of the function, which may be async, is a check of `cost` units.

        `identify`: the client id, or a function that makes it of the call's arguments; so may `cost` be made. A denied
        call returns what `on_denied` makes of the decision, or raises RateLimited where there is none.
        """
        return limited(self.check, limit_key, identify=identify, cost=cost, on_denied=on_denied)

    def health(self) -> Health:
        """Ask whether the service decides, by a check that charges nothing, and tell what became of all before.

        Never raises. It takes a trip, also while checks do not ask; what it finds is not counted.
        """
        try:
            return self._health(None, self._service.probe(self._health_trip()).degraded)
        except RateLimiterError as error:
            return self._health(str(error), False)

    def close(self) -> None:
        """Close the connections that wait. A later call opens a new one."""
        self._service.process.undecided.flush()
        self._service.process.connections.close()

    def __enter__(self) -> RateLimiter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
