"""RateLimiter: asks the service, within a time, and has an answer whatever happens."""

from __future__ import annotations

from typing import Any, Callable, Iterable, Mapping

from ratelimiter_client import answers, questions
from ratelimiter_client.arguments import refuse_unless
from ratelimiter_client.breaker import log
from ratelimiter_client.decision import Check, Decision, Lease, undecided
from ratelimiter_client.decorator import ClientId, F, limited
from ratelimiter_client.endpoint import Endpoint
from ratelimiter_client.errors import RateLimiterError
from ratelimiter_client.service import Service

FAIL_MODES = ("open", "closed", "raise")
MAX_TIMEOUT_SECONDS = 60
MAX_BATCH_ANSWER = 1024 * 1024
CHECK, BATCH, LEASES = "/v1/check", "/v1/check/batch", "/v1/leases"


class RateLimiter:
    """A client of the service at `url`. One for the whole application: threads, greenlets and forks may share it.

    `timeout`: seconds for a call, connecting and a second attempt included. `fail_mode`: what a check is when the
    service does not decide it: "open" (allowed), "closed" (denied) or "raise" (RateLimiterError). `retry`: give each
    check an id, by which it is charged once though it is sent again, over a new connection, where the first one broke.
    `ca_file`: certificates to trust instead of the system's. Raises ValueError or TypeError for a wrong argument.
    """

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
    ) -> None:
        refuse_unless(isinstance(timeout, (int, float)), "timeout", timeout, "a number of seconds")
        refuse_unless(isinstance(max_idle_connections, int), "max_idle_connections", max_idle_connections, "an integer")
        if not 0 < timeout <= MAX_TIMEOUT_SECONDS:
            raise ValueError(f"timeout is {timeout!r}, allowed are seconds above 0 and up to {MAX_TIMEOUT_SECONDS}")
        if fail_mode not in FAIL_MODES:
            raise ValueError(f"fail_mode is {fail_mode!r}, allowed is one of {', '.join(FAIL_MODES)}")
        if max_idle_connections < 0:
            raise ValueError(f"max_idle_connections is {max_idle_connections!r}, allowed is 0 or more")
        self.timeout = timeout
        self.fail_mode = fail_mode
        self._retry = retry
        self._service = Service(Endpoint(url, api_key, ca_file), timeout=timeout, max_idle=max_idle_connections)

    def check(
        self,
        client_id: str | int,
        limit_key: str = "global",
        cost: int = 1,
        *,
        request_id: str | None = None,
        correlation_id: str | None = None,
        traceparent: str | None = None,
    ) -> Decision:
        """May the client do this now? If so, its `cost` (0 to 10^9 units) has been charged.

        A name that the service would refuse (empty, too long, control characters) is counted by its SHA-256 digest; an
        int is taken as its digits. What else
        it refuses, a cost of -1 or a client_id of None, is a failure like any other: the fail mode decides, and the log
        has it once. `request_id` (1-64 of A-Z a-z 0-9 . _ -): the same within a minute is the same check.
        `correlation_id` (of the same characters) and the W3C `traceparent` are sent along where they are well-formed.
        """
        try:
            fields = self._question(Check(client_id, limit_key, cost, request_id))
            body = questions.encoded(fields).encode()
            context = questions.context(correlation_id, traceparent)
            return self._service.ask(CHECK, body, answers.decision, context=context, again=_repeatable(fields))
        except RateLimiterError as error:
            return self._undecided(error)

    def peek(self, client_id: str | int, limit_key: str = "global") -> Decision:
        """What is left, in `remaining`. Charges nothing; `allowed` is true also where nothing is left."""
        return self.check(client_id, limit_key, 0)

    def check_many(self, checks: Iterable[Check | tuple[Any, ...] | Mapping[str, Any]]) -> list[Decision]:
        """Many checks in one trip (one for every 1,000 or 250 kB), decisions in the same order.

        Each is a Check, or a tuple or mapping of its fields. They are independent: one that is denied, or invalid,
        changes nothing about the others. The timeout is each trip's. Their decisions have no `headers`.
        """
        asked = [self._item(item) for item in checks]
        again = all(isinstance(item, Decision) or _repeatable(item) for item in asked)
        decisions = {place: item for place, item in enumerate(asked) if isinstance(item, Decision)}
        valid = ((place, questions.encoded(item)) for place, item in enumerate(asked) if isinstance(item, dict))
        for places, body in questions.packed(valid):
            decisions.update(zip(places, self._batch(body, len(places), again)))
        return [decisions[place] for place in range(len(asked))]

    def lease(self, client_id: str | int, limit_key: str, permits: int, ttl: float) -> Lease:
        """Charge up to `permits` (1 to 10^9) units at once, to be spent within `ttl` seconds (0.001 to 3600).

        As many are granted as every limit has left, maybe none. Never sent twice. Raises RateLimiterError whatever the
        fail mode.
        """
        fields = questions.names(client_id, limit_key)
        fields["permits"] = questions.amount("permits", permits, 1)
        fields["ttl_ms"] = questions.milliseconds("ttl", ttl, questions.MAX_TTL_MS)
        return self._service.ask(LEASES, questions.encoded(fields).encode(), answers.lease)

    def return_lease(self, lease_id: str, unused: int) -> int:
        """Give back permits of a lease; how many were credited: fewer, or none, where their window has ended.

        Safe to repeat. Raises RateLimiterError whatever the fail mode, of status 404 for a lease that is over.
        """
        body = questions.encoded({"unused": questions.amount("unused", unused, 0)}).encode()
        path = f"{LEASES}/{questions.lease_path(lease_id)}/return"
        return self._service.ask(path, body, answers.returned, again=True)

    def limit(
        self,
        limit_key: str = "global",
        *,
        identify: ClientId,
        cost: int = 1,
        on_denied: Callable[[Decision], Any] | None = None,
    ) -> Callable[[F], F]:
        """A decorator: every call of the function is a check of `cost` units.

        `identify`: the client id, or a function that makes it of the call's arguments. A denied call returns what
        `on_denied` makes of the decision, or raises RateLimited where there is no such function.
        """
        return limited(self.check, limit_key, identify=identify, cost=cost, on_denied=on_denied)

    def close(self) -> None:
        """Close the connections that wait. A later call opens a new one."""
        self._service.process.connections.close()

    def __enter__(self) -> RateLimiter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _question(self, check: Check) -> dict[str, Any]:
        return questions.question(check, self._service.process.new_id() if self._retry else None)

    def _item(self, item: tuple[Any, ...] | Mapping[str, Any]) -> dict[str, Any] | Decision:
        """The question to send, or the decision on one that cannot be sent."""
        try:
            return self._question(Check(**item) if isinstance(item, Mapping) else Check(*item))
        except TypeError as error:
            return self._undecided(RateLimiterError(str(error), status=422))
        except RateLimiterError as error:
            return self._undecided(error)

    def _batch(self, body: bytes, number: int, again: bool) -> list[Decision]:
        try:
            read = answers.results(number)
            results = self._service.ask(BATCH, body, read, again=again, most=MAX_BATCH_ANSWER)
        except RateLimiterError as error:
            return [self._undecided(error)] * number
        return [result if isinstance(result, Decision) else self._undecided(result) for result in results]

    def _undecided(self, error: RateLimiterError) -> Decision:
        if self.fail_mode == "raise":
            raise error
        logged = self._service.process.logged
        if error.status is not None and error.status not in logged:
            logged.add(error.status)
            log.error("%s (fail mode %s; said once)", error, self.fail_mode)
        return undecided(error, allowed=self.fail_mode == "open")


def _repeatable(fields: dict[str, Any]) -> bool:
    return "request_id" in fields or fields["cost"] == 0
