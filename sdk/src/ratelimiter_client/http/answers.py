"""Reads answers of the service. An invalid one raises ProtocolError, ValueError or RecursionError."""

from __future__ import annotations

import json
import re
from typing import Any, Callable

from ratelimiter_client.decision import Decision, Headers, Lease, decision_of, fits
from ratelimiter_client.errors import ProtocolError, RateLimiterError
from ratelimiter_client.http.transport import Answer

DEFAULT_WAIT_MS = 1000
MAX_DETAIL = 300
RATE_LIMIT = re.compile(r"(?:x-)?ratelimit(?:-[a-z]+)*|retry-after", re.IGNORECASE)

decoded: Callable[[str], tuple[Any, int]] = json.JSONDecoder().raw_decode


def decision(answer: Answer) -> Decision:
    """The decision in an answer of `/v1/check`."""
    return decision_of(_document(answer), answer.headers)


def results(number: int) -> Callable[[Answer], list[Decision | RateLimiterError]]:
    """A reader of `number` results of `/v1/check/batch`: decisions, or the errors of undecided checks.

    A decision has headers where the request asked for them.
    """

    def read(answer: Answer) -> list[Decision | RateLimiterError]:
        items = _member(answer, "results", list)
        if len(items) != number:
            raise ProtocolError(f"{len(items)} results for {number} checks")
        return [_problem(item["error"]) if _is_error(item) else decision_of(item, _headers(item)) for item in items]

    return read


def lease(answer: Answer) -> Lease:
    """The lease in an answer of `/v1/leases`."""
    fields = _document(answer)
    decided = decision_of(fields, answer.headers)
    lease_id, granted, expires_at = (fields.get(name) for name in ("lease_id", "granted", "expires_at"))
    if not fits(granted, (int,)) or decided.allowed != (granted > 0):
        raise ProtocolError("the answer is no lease")
    if granted == 0:
        return Lease(None, 0, None, decided)
    if not (isinstance(lease_id, str) and fits(expires_at, (int, float))):
        raise ProtocolError("the answer is no lease")
    return Lease(lease_id, granted, expires_at, decided)


def returned(answer: Answer) -> int:
    """The number of permits credited."""
    number: int = _member(answer, "returned", int)
    return number


def refusal(answer: Answer) -> RateLimiterError:
    """The error for an answer that is not 200; never raises."""
    wait = dict(answer.headers).get("Retry-After", "")
    wait_ms = int(wait) * 1000 if wait.isdigit() and len(wait) < 9 else DEFAULT_WAIT_MS
    try:
        detail = str(_document(answer)["detail"])[:MAX_DETAIL]
    except (ValueError, TypeError, KeyError, RecursionError):
        detail = "no problem document"
    return RateLimiterError(
        f"the service answered {answer.status}: {detail!r}", status=answer.status, retry_after_ms=wait_ms
    )


def _document(answer: Answer) -> Any:
    """The JSON value of the body, in half the time of json.loads. Raises ValueError, RecursionError."""
    text = answer.body.decode().strip(" \t\r\n")
    value, end = decoded(text)
    if end != len(text):
        raise ValueError(f"the answer has {len(text) - end} characters after its JSON")
    return value


def _member(answer: Answer, name: str, kind: type) -> Any:
    found = _document(answer)
    if not isinstance(found, dict) or not fits(found.get(name), (kind,)):
        raise ProtocolError(f"the answer has no {name}")
    return found[name]


def _is_error(item: Any) -> bool:
    return isinstance(item, dict) and isinstance(item.get("error"), dict)


def _headers(item: Any) -> Headers:
    """Of a decision in a batch: those about limits, in visible ASCII, because applications hand them on."""
    sent = item.get("headers") if isinstance(item, dict) else None
    if not isinstance(sent, dict):
        return ()
    return tuple((name, value) for name, value in sent.items() if RATE_LIMIT.fullmatch(name) and _is_visible(value))


def _is_visible(value: object) -> bool:
    return isinstance(value, str) and value.isascii() and value.isprintable()


def _problem(problem: dict[str, Any]) -> RateLimiterError:
    status = problem.get("status")
    if type(status) is not int or status not in range(100, 600):
        raise ProtocolError("the answer has an error of no status")
    return RateLimiterError(
        f"the service answered {status}: {str(problem.get('detail'))[:MAX_DETAIL]!r}", status=status
    )
