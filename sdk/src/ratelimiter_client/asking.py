"""The base of RateLimiter and AsyncRateLimiter: the round trips of a call, and what it returns."""

from __future__ import annotations

from typing import Any, Generic, Iterable, Iterator, Mapping, Tuple, TypeVar, Union

from ratelimiter_client.arguments import FAIL_MODES, each, function, refuse_unless
from ratelimiter_client.decision import NOT_ASKED, Check, Decision, Lease, denied
from ratelimiter_client.errors import RateLimiterError
from ratelimiter_client.health import Health, Node
from ratelimiter_client.http import answers, questions
from ratelimiter_client.http.core import Core, Trip
from ratelimiter_client.undecided import OnUndecided, Undecided
from ratelimiter_client.unnamed import tell_unnamed

MAX_TIMEOUT_SECONDS = 60
MAX_BATCH_ANSWER = 1024 * 1024
CHECK, BATCH, LEASES = "/v1/check", "/v1/check/batch", "/v1/leases"

Item = Union[Tuple[Any, ...], Mapping[str, Any]]
Result = Union[Decision, RateLimiterError]
S = TypeVar("S", bound=Core[Any])
PENDING = denied(NOT_ASKED)


class Asking(Generic[S]):
    """See RateLimiter for the arguments. Raises ValueError or TypeError for a wrong one."""

    _service: S

    def __init__(self, url: str, timeout: float, fail_mode: str, retry: bool, on_undecided: OnUndecided) -> None:
        is_number = isinstance(timeout, (int, float)) and not isinstance(timeout, bool)
        refuse_unless(is_number, "timeout", timeout, "a number of seconds")
        in_range = 0 < timeout <= MAX_TIMEOUT_SECONDS
        refuse_unless(in_range, "timeout", timeout, f"seconds above 0 and up to {MAX_TIMEOUT_SECONDS}", ValueError)
        refuse_unless(fail_mode in FAIL_MODES, "fail_mode", fail_mode, f"one of {', '.join(FAIL_MODES)}", ValueError)
        refuse_unless(isinstance(retry, bool), "retry", retry, "True or False")
        function("on_undecided", on_undecided, "a function of the error", None)
        self.timeout = timeout
        self.fail_mode = fail_mode
        self._url = url
        self._retry = retry
        self._on_undecided = on_undecided
        self._rules_seen: dict[int | str, str] = {}  # a limit key that the rule decided

    def _new_undecided(self) -> Undecided:
        return Undecided(self._url, self.fail_mode, self._on_undecided)

    def _check_trip(
        self, check: Check, correlation_id: str | None, traceparent: str | None
    ) -> Trip[Decision] | Decision:
        """The round trip of a check, or the denial of a check that cannot be sent. Raises TypeError."""
        question = self._question(check)
        if isinstance(question, Decision):
            return question
        text, limit_key, again = question
        context = questions.context(correlation_id, traceparent)
        return Trip(CHECK, text, answers.decision, context=context, again=again, limit_key=limit_key)

    def _decided(self, trip: Trip[Decision], decision: Decision) -> Decision:
        """By the service."""
        if self._rules_seen.get(decision.rule_id) != trip.limit_key:  # nearly always equal
            tell_unnamed(self._rules_seen, decision.rule_id, trip.limit_key)
        return decision

    def _undecided(self, error: RateLimiterError) -> Decision:
        """The decision of the fail mode. Raises `error` if that is "raise"."""
        return self._service.process.undecided.decision(error)

    def _batch_trips(
        self, checks: Iterable[Item], decisions: list[Decision]
    ) -> Iterator[tuple[list[int], Trip[list[Result]]]]:
        """Round trips that decide many checks, each with the places of its results in `decisions`.

        Fills `decisions` at once with denials of checks that cannot be sent. Raises TypeError before the first round
        trip.
        """
        asked = [self._question(_check(item)) for item in each("checks", checks, "a list of checks")]
        again = all(isinstance(item, Decision) or item.again for item in asked)
        decisions[:] = [item if isinstance(item, Decision) else PENDING for item in asked]
        valid = ((place, item.text) for place, item in enumerate(asked) if not isinstance(item, Decision))
        for places, body in questions.packed(valid):
            self._service.process.asked += len(places) - 1
            yield places, Trip(BATCH, body, answers.results(len(places)), again=again, most=MAX_BATCH_ANSWER)

    def _together_trip(
        self, checks: Iterable[Item], correlation_id: str | None, traceparent: str | None
    ) -> tuple[Trip[list[Result]], list[str]] | list[Decision]:
        """The round trip of checks of which all are charged, or none, and their limit keys.

        If one cannot be sent, none is: the denials. Raises TypeError, ValueError.
        """
        asked = [self._question(_check(item)) for item in each("checks", checks, "a list of checks")]
        sent = [item for item in asked if isinstance(item, questions.Question)]
        if not sent or len(sent) < len(asked):
            return [item if isinstance(item, Decision) else PENDING for item in asked]
        self._service.process.asked += len(sent) - 1
        body, again = questions.together([item.text for item in sent]), all(item.again for item in sent)
        read, context = answers.results(len(sent)), questions.context(correlation_id, traceparent)
        trip = Trip(BATCH, body, read, context=context, again=again, most=MAX_BATCH_ANSWER)
        return trip, [item.limit_key for item in sent]

    def _decided_together(self, limit_keys: list[str], results: Iterable[Result]) -> list[Decision]:
        """By the service, or by the fail mode. Raises RateLimiterError if that is "raise"."""
        decisions = []
        for limit_key, result in zip(limit_keys, results):
            decision = result if isinstance(result, Decision) else self._undecided(result)
            if decision.error is None and self._rules_seen.get(decision.rule_id) != limit_key:
                tell_unnamed(self._rules_seen, decision.rule_id, limit_key)
            decisions.append(decision)
        return decisions

    def _put(self, decisions: list[Decision], places: list[int], results: Iterable[Result]) -> None:
        for place, result in zip(places, results):
            decisions[place] = result if isinstance(result, Decision) else self._undecided(result)

    def _lease_trip(
        self, client_id: object, limit_key: object, permits: object, ttl: object, groups: object
    ) -> Trip[Lease] | Lease:
        """The round trip of a lease, or an empty lease for a number of permits or groups out of range. Raises
        TypeError, ValueError.
        """
        fields = questions.names(client_id, limit_key)
        if isinstance(named := questions.bounded_groups(groups), Decision):
            return Lease(None, 0, None, named)
        if named:
            fields["groups"] = named
        fields["ttl_ms"] = questions.milliseconds("ttl", ttl, questions.MAX_TTL_MS)
        units = questions.amount("permits", permits, 1)
        if isinstance(units, Decision):
            return Lease(None, 0, None, units)
        fields["permits"] = units
        return Trip(LEASES, questions.encoded(fields), answers.lease)

    def _return_trip(self, lease_id: object, unused: object) -> Trip[int]:
        """The round trip of a lease's return. Raises TypeError, ValueError."""
        path = f"{LEASES}/{questions.lease_path(lease_id)}/return"
        units = questions.integer("unused", unused)
        if not 0 <= units <= questions.MAX_AMOUNT:
            raise ValueError(f"unused is {units}, allowed is 0 to {questions.MAX_AMOUNT}")
        return Trip(path, questions.encoded({"unused": units}), answers.returned, again=True)

    def _health_trip(self) -> Trip[Decision]:
        body = questions.encoded({"client_id": "ratelimiter-client", "cost": 0})
        return Trip(CHECK, body, answers.decision, again=True)

    def _health(self, error: str | None, degraded: bool) -> Health:
        process = self._service.process
        node = Node(self._url, "failing" if process.breaker.is_open else "available", process.breaker.since)
        counts = process.undecided
        return Health(
            error is None, error, degraded, (node,), process.asked, counts.total, dict(counts.reasons), counts.last
        )

    def _question(self, check: Check) -> questions.Question | Decision:
        return questions.question(check, self._service.process.new_id() if self._retry else None)


def bound(name: str, given: Any, low: int) -> None:
    """Check a number of connections. Raises TypeError or ValueError."""
    refuse_unless(isinstance(given, int) and not isinstance(given, bool), name, given, "an integer")
    refuse_unless(given >= low, name, given, f"{low} or more", ValueError)


def _check(item: Item) -> Check:
    """The check. Raises TypeError for other fields."""
    try:
        return Check(**item) if isinstance(item, Mapping) else Check(*item)
    except TypeError:
        raise TypeError(f"one of checks is {item!r}, allowed is (client_id, limit_key, cost), or a mapping") from None
