"""RateLimiter: asks the service within a timeout, and always has an answer."""

from __future__ import annotations

from typing import Any, Callable, Iterable

from ratelimiter_client.arguments import FailMode
from ratelimiter_client.asking import Asking, Item, bound
from ratelimiter_client.decision import Check, Decision, Groups, Lease, Name
from ratelimiter_client.decorator import Cost, F, Many, Who, limited
from ratelimiter_client.errors import RateLimiterError
from ratelimiter_client.health import Health
from ratelimiter_client.http.endpoint import Endpoint
from ratelimiter_client.http.service import Service
from ratelimiter_client.undecided import OnUndecided
from ratelimiter_client.waiting import admitted


class RateLimiter(Asking[Service]):
    """A client of the service at `url`. One for the whole application: threads, greenlets and forks may share it.

    `timeout`: seconds for a call, connecting and a second attempt included. `fail_mode`: the result of a check that the
    service does not decide: "open" (allowed), "closed" (denied) or "raise" (RateLimiterError).

    `retry`: give each check an id, and send it again over a new connection if the first one broke. Thanks to the id it
    is charged once.

    `ca_file`: certificates to trust instead of the system's. `on_undecided`: called with the RateLimiterError of each
    check that the service did not decide. Raises ValueError or TypeError for a wrong argument.
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
        groups: Groups = (),
        request_id: Name | None = None,
        correlation_id: str | None = None,
        traceparent: str | None = None,
    ) -> Decision:
        """Decide whether the client may do this now. If so, its `cost` (0 to 10^9 units) has been charged.

        Names are text, integers or UUIDs, and count by their text. A name that the service would refuse (empty, too
        long, control characters) counts by its SHA-256 digest. A cost out of range is denied, whatever the fail mode.
        Raises TypeError for anything else.

        `request_id` (1-64 of A-Z a-z 0-9 . _ -, any other by its digest): checks with the same id within a minute are
        one check, charged once. With another cost, key or groups such a check is denied. Do not let callers choose it.

        `groups`: up to 8 names of groups that the client is in, the most important first; more than 8 are denied.

        `correlation_id` (of the same characters) and the W3C `traceparent` are sent if they are well-formed.
        """
        check = Check(client_id, limit_key, cost, request_id, groups)
        trip = self._check_trip(check, correlation_id, traceparent)
        if isinstance(trip, Decision):
            return trip
        try:
            return self._decided(trip, self._service.ask(trip))
        except RateLimiterError as error:
            return self._undecided(error)

    def peek(self, client_id: Name, limit_key: Name = "global", *, groups: Groups = ()) -> Decision:
        """The units that are left, in `remaining`. Charges nothing; `allowed` is true even where nothing is left."""
        return self.check(client_id, limit_key, 0, groups=groups)

    def wait(
        self, client_id: Name, limit_key: Name = "global", cost: int = 1, *, at_most: float, groups: Groups = ()
    ) -> Decision:
        """Check until it is admitted, for `at_most` seconds, sleeping between checks as long as the service says.

        Returns the last decision: a denial at once where waiting does not help, or would take longer.
        """
        return admitted(lambda: self.check(client_id, limit_key, cost, groups=groups), at_most)

    def check_many(self, checks: Iterable[Item]) -> list[Decision]:
        """Many checks in one round trip (one for every 1,000 or 250 kB), decisions in the same order.

        Each is a Check, or a tuple or mapping of its fields. They are independent: a denied one does not affect the
        others. Raises TypeError, before anything is sent, where `check` would. The timeout holds for each round trip.
        The decisions have no `headers`.
        """
        decisions: list[Decision] = []
        for places, trip in self._batch_trips(checks, decisions):
            try:
                results = self._service.ask(trip)
            except RateLimiterError as error:
                results = [*[error] * len(places)]
            self._put(decisions, places, results)
        return decisions

    def check_together(
        self, checks: Iterable[Item], *, correlation_id: str | None = None, traceparent: str | None = None
    ) -> list[Decision]:
        """Many checks in one round trip, as in `check_many`, of which all are admitted and charged, or none is.

        Each decision is that of its check: proceed only if all are allowed. Checks that meet the same counter charge it
        once, by the greatest cost. The decisions have `headers`.

        Raises TypeError where `check` would, and ValueError for more than 1,000 checks or 250 kB. Where a check cannot
        be sent, none is.
        """
        asked = self._together_trip(checks, correlation_id, traceparent)
        if isinstance(asked, list):
            return asked
        trip, limit_keys = asked
        try:
            results = self._service.ask(trip)
        except RateLimiterError as error:
            results = [*[error] * len(limit_keys)]
        return self._decided_together(limit_keys, results)

    def lease(self, client_id: Name, limit_key: Name, permits: int, ttl: float, *, groups: Groups = ()) -> Lease:
        """Charge up to `permits` (1 to 10^9) units at once, to be used within `ttl` seconds (0.001 to 3600).

        The service grants as many as every limit has left, maybe none; none where `permits` is out of range. Never sent
        twice. Raises RateLimiterError whatever the fail mode, TypeError and ValueError for other arguments.
        """
        trip = self._lease_trip(client_id, limit_key, permits, ttl, groups)
        return trip if isinstance(trip, Lease) else self._service.ask(trip)

    def return_lease(self, lease_id: str, unused: int) -> int:
        """Return unused permits of a lease. Returns the number credited, which is smaller or 0 if their window has
        ended.

        Safe to repeat. Raises RateLimiterError whatever the fail mode, of status 404 for a lease that is over. Raises
        TypeError and ValueError for an invalid lease id or number of permits.
        """
        return self._service.ask(self._return_trip(lease_id, unused))

    def limit(
        self,
        limit_key: str = "global",
        *,
        identify: Who,
        cost: Cost = 1,
        groups: Many = (),
        on_denied: Callable[[Decision], Any] | None = None,
    ) -> Callable[[F], F]:
        """A decorator: every call of the function, which may be async, is a check of `cost` units.

        `identify`: the client id, or a function of the call's arguments that returns it; `cost` and `groups` may be
        such functions too. A denied call returns the result of `on_denied(decision)`, or raises RateLimited without it.
        """
        return limited(self.check, limit_key, identify=identify, cost=cost, groups=groups, on_denied=on_denied)

    def health(self) -> Health:
        """Ask whether the service decides, by a check that charges nothing, and report the results of previous checks.

        Never raises. It takes a round trip even while the breaker is open, and its result is not counted.
        """
        try:
            return self._health(None, self._service.probe(self._health_trip()).degraded)
        except RateLimiterError as error:
            return self._health(str(error), False)

    def close(self) -> None:
        """Close the idle connections. A later call opens a new one."""
        self._service.process.undecided.flush()
        self._service.process.connections.close()

    def __enter__(self) -> RateLimiter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
