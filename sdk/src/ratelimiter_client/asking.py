"""What RateLimiter and AsyncRateLimiter share: the trips that a call takes, and the decision where one fails."""

from __future__ import annotations

from typing import Any, Iterable, Iterator, Mapping, Sequence, Tuple, Union

from ratelimiter_client import answers, questions
from ratelimiter_client.arguments import refuse_unless
from ratelimiter_client.breaker import log
from ratelimiter_client.core import Core, Trip
from ratelimiter_client.decision import Check, Decision, Lease, undecided
from ratelimiter_client.errors import RateLimiterError

FAIL_MODES = ("open", "closed", "raise")
MAX_TIMEOUT_SECONDS = 60
MAX_BATCH_ANSWER = 1024 * 1024
CHECK, BATCH, LEASES = "/v1/check", "/v1/check/batch", "/v1/leases"

Item = Union[Tuple[Any, ...], Mapping[str, Any]]
PENDING = undecided(RateLimiterError("not asked yet"), allowed=False)
Result = Union[Decision, RateLimiterError]


class Asking:
    """See RateLimiter for the arguments. Raises ValueError or TypeError for a wrong one."""

    _service: Core[Any]

    def __init__(self, timeout: float, fail_mode: str, retry: bool) -> None:
        refuse_unless(isinstance(timeout, (int, float)), "timeout", timeout, "a number of seconds")
        if not 0 < timeout <= MAX_TIMEOUT_SECONDS:
            raise ValueError(f"timeout is {timeout!r}, allowed are seconds above 0 and up to {MAX_TIMEOUT_SECONDS}")
        if fail_mode not in FAIL_MODES:
            raise ValueError(f"fail_mode is {fail_mode!r}, allowed is one of {', '.join(FAIL_MODES)}")
        self.timeout = timeout
        self.fail_mode = fail_mode
        self._retry = retry

    def _check_trip(self, check: Check, correlation_id: str | None, traceparent: str | None) -> Trip[Decision]:
        fields = self._question(check)
        context = questions.context(correlation_id, traceparent)
        body = questions.encoded(fields).encode()
        return Trip(CHECK, body, answers.decision, context=context, again=_repeatable(fields))

    def _batch_trips(
        self, checks: Iterable[Item], decisions: list[Decision]
    ) -> Iterator[tuple[list[int], Trip[list[Result]]]]:
        """Trips that decide many checks, each with the places in `decisions` that its results are for.

        Puts there at once the decisions on checks that cannot be sent.
        """
        asked = [self._item(item) for item in checks]
        again = all(isinstance(item, Decision) or _repeatable(item) for item in asked)
        decisions[:] = [item if isinstance(item, Decision) else PENDING for item in asked]
        valid = ((place, questions.encoded(item)) for place, item in enumerate(asked) if isinstance(item, dict))
        for places, body in questions.packed(valid):
            yield places, Trip(BATCH, body, answers.results(len(places)), again=again, most=MAX_BATCH_ANSWER)

    def _put(self, decisions: list[Decision], places: list[int], results: Sequence[Result]) -> None:
        for place, result in zip(places, results):
            decisions[place] = result if isinstance(result, Decision) else self._undecided(result)

    def _lease_trip(self, client_id: object, limit_key: object, permits: object, ttl: object) -> Trip[Lease]:
        fields = questions.names(client_id, limit_key)
        fields["permits"] = questions.amount("permits", permits, 1)
        fields["ttl_ms"] = questions.milliseconds("ttl", ttl, questions.MAX_TTL_MS)
        return Trip(LEASES, questions.encoded(fields).encode(), answers.lease)

    def _return_trip(self, lease_id: object, unused: object) -> Trip[int]:
        body = questions.encoded({"unused": questions.amount("unused", unused, 0)}).encode()
        return Trip(f"{LEASES}/{questions.lease_path(lease_id)}/return", body, answers.returned, again=True)

    def _question(self, check: Check) -> dict[str, Any]:
        return questions.question(check, self._service.process.new_id() if self._retry else None)

    def _item(self, item: Item) -> dict[str, Any] | Decision:
        """The question to send, or the decision on one that cannot be sent."""
        try:
            return self._question(Check(**item) if isinstance(item, Mapping) else Check(*item))
        except TypeError as error:
            return self._undecided(RateLimiterError(str(error), status=422))
        except RateLimiterError as error:
            return self._undecided(error)

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


def bound(name: str, given: object, low: int) -> None:
    """Of connections. Raises TypeError or ValueError."""
    refuse_unless(isinstance(given, int) and not isinstance(given, bool), name, given, "an integer")
    refuse_unless(given >= low, name, given, f"{low} or more", ValueError)  # type: ignore[operator]
