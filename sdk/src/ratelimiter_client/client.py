"""RateLimiter: asks the service, within a time, and has an answer whatever happens."""

from __future__ import annotations

from typing import Any, Callable, Iterable, Mapping

from ratelimiter_client import answers, questions
from ratelimiter_client.arguments import FAIL_MODES, FailMode, refuse_unless
from ratelimiter_client.decision import Check, Decision, Lease, Name
from ratelimiter_client.decorator import Cost, F, Who, limited
from ratelimiter_client.endpoint import Endpoint
from ratelimiter_client.errors import RateLimiterError
from ratelimiter_client.health import Health, Node
from ratelimiter_client.service import Service
from ratelimiter_client.undecided import OnUndecided, Undecided
from ratelimiter_client.unnamed import tell_unnamed
from ratelimiter_client.waiting import admitted

MAX_TIMEOUT_SECONDS = 60
MAX_BATCH_ANSWER = 1024 * 1024
CHECK, BATCH, LEASES = "/v1/check", "/v1/check/batch", "/v1/leases"


class RateLimiter:
    """A client of the service at `url`. One for the whole application: threads, greenlets and forks may share it.

    `timeout`: seconds for a call, connecting and a second attempt included. `fail_mode`: what a check is when the
    service does not decide it: "open" (allowed), "closed" (denied) or "raise" (RateLimiterError). `retry`: give each
    check an id, by which it is charged once though it is sent again, over a new connection, where the first one broke.
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
        refuse_unless(isinstance(timeout, (int, float)), "timeout", timeout, "a number of seconds")
        refuse_unless(isinstance(max_idle_connections, int), "max_idle_connections", max_idle_connections, "an integer")
        if not 0 < timeout <= MAX_TIMEOUT_SECONDS:
            raise ValueError(f"timeout is {timeout!r}, allowed are seconds above 0 and up to {MAX_TIMEOUT_SECONDS}")
        if fail_mode not in FAIL_MODES:
            raise ValueError(f"fail_mode is {fail_mode!r}, allowed is one of {', '.join(FAIL_MODES)}")
        if max_idle_connections < 0:
            raise ValueError(f"max_idle_connections is {max_idle_connections!r}, allowed is 0 or more")
        refuse_unless(on_undecided is None or callable(on_undecided), "on_undecided", on_undecided, "a function")
        self.timeout = timeout
        self.fail_mode = fail_mode
        self._url = url
        self._retry = retry
        self._service = Service(
            Endpoint(url, api_key, ca_file),
            timeout=timeout,
            max_idle=max_idle_connections,
            undecided=lambda: Undecided(url, fail_mode, on_undecided),
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
        fields = self._question(Check(client_id, limit_key, cost, request_id))
        if isinstance(fields, Decision):
            return fields
        try:
            body = questions.encoded(fields).encode()
            context = questions.context(correlation_id, traceparent)
            decision = self._service.ask(CHECK, body, answers.decision, context=context, again=_repeatable(fields))
        except RateLimiterError as error:
            return self._service.process.undecided.decision(error)
        tell_unnamed(self._service.process.rules_seen, decision.rule_id, fields["limit_key"])
        return decision

    def peek(self, client_id: Name, limit_key: Name = "global") -> Decision:
        """What is left, in `remaining`. Charges nothing; `allowed` is true also where nothing is left."""
        return self.check(client_id, limit_key, 0)

    def wait(self, client_id: Name, limit_key: Name = "global", cost: int = 1, *, at_most: float) -> Decision:
        """Check until it is admitted, sleeping between as long as the service says, for `at_most` seconds.

        The last decision: a denial at once where waiting does not help, or would take longer.
        """
        return admitted(lambda: self.check(client_id, limit_key, cost), at_most)

    def check_many(self, checks: Iterable[Check | tuple[Any, ...] | Mapping[str, Any]]) -> list[Decision]:
        """Many checks in one trip (one for every 1,000 or 250 kB), decisions in the same order.

        Each is a Check, or a tuple or mapping of its fields. They are independent: one that is denied changes nothing
        about the others. Raises TypeError, before anything is sent, where `check` would. The timeout is each trip's.
        Their decisions have no `headers`.
        """
        asked = [self._question(_check(item)) for item in checks]
        again = all(isinstance(item, Decision) or _repeatable(item) for item in asked)
        decisions = {place: item for place, item in enumerate(asked) if isinstance(item, Decision)}
        valid = ((place, questions.encoded(item)) for place, item in enumerate(asked) if isinstance(item, dict))
        for places, body in questions.packed(valid):
            decisions.update(zip(places, self._batch(body, len(places), again)))
        return [decisions[place] for place in range(len(asked))]

    def lease(self, client_id: Name, limit_key: Name, permits: int, ttl: float) -> Lease:
        """Charge up to `permits` (1 to 10^9) units at once, to be spent within `ttl` seconds (0.001 to 3600).

        As many are granted as every limit has left, maybe none; none where `permits` is out of range. Never sent twice.
        Raises RateLimiterError whatever the fail mode, TypeError and ValueError for other arguments.
        """
        fields = questions.names(client_id, limit_key)
        fields["ttl_ms"] = questions.milliseconds("ttl", ttl, questions.MAX_TTL_MS)
        units = questions.amount("permits", permits, 1)
        if isinstance(units, Decision):
            return Lease(None, 0, None, units)
        fields["permits"] = units
        return self._service.ask(LEASES, questions.encoded(fields).encode(), answers.lease)

    def return_lease(self, lease_id: str, unused: int) -> int:
        """Give back permits of a lease; how many were credited: fewer, or none, where their window has ended.

        Safe to repeat. Raises RateLimiterError whatever the fail mode, of status 404 for a lease that is over;
        TypeError and ValueError for what is no lease's id or no number of permits.
        """
        path = f"{LEASES}/{questions.lease_path(lease_id)}/return"
        if not 0 <= questions.integer("unused", unused) <= questions.MAX_AMOUNT:
            raise ValueError(f"unused is {unused}, allowed is 0 to {questions.MAX_AMOUNT}")
        body = questions.encoded({"unused": int(unused)}).encode()
        return self._service.ask(path, body, answers.returned, again=True)

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
        process = self._service.process
        error, degraded = None, False
        try:
            body = questions.encoded({"client_id": "ratelimiter-client", "cost": 0}).encode()
            degraded = self._service.probe(CHECK, body, answers.decision).degraded
        except RateLimiterError as found:
            error = str(found)
        node = Node(self._url, "failing" if process.breaker.is_open else "available", process.breaker.since)
        counts = process.undecided
        return Health(
            error is None, error, degraded, (node,), process.asked, counts.total, dict(counts.reasons), counts.last
        )

    def close(self) -> None:
        """Close the connections that wait. A later call opens a new one."""
        self._service.process.undecided.flush()
        self._service.process.connections.close()

    def __enter__(self) -> RateLimiter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _question(self, check: Check) -> dict[str, Any] | Decision:
        return questions.question(check, self._service.process.new_id() if self._retry else None)

    def _batch(self, body: bytes, number: int, again: bool) -> list[Decision]:
        process = self._service.process
        process.asked += number - 1
        try:
            read = answers.results(number)
            results = self._service.ask(BATCH, body, read, again=again, most=MAX_BATCH_ANSWER)
        except RateLimiterError as error:
            return [process.undecided.decision(error) for _ in range(number)]
        return [result if isinstance(result, Decision) else process.undecided.decision(result) for result in results]


def _check(item: Check | tuple[Any, ...] | Mapping[str, Any]) -> Check:
    """Raises TypeError for what has other fields."""
    return Check(**item) if isinstance(item, Mapping) else Check(*item)


def _repeatable(fields: dict[str, Any]) -> bool:
    return "request_id" in fields or fields["cost"] == 0
