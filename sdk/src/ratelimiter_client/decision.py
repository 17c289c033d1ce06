"""Questions (Check) and answers (Decision, Lease), and reading answers from JSON."""

from __future__ import annotations

import itertools
import operator
from typing import Any, List, NamedTuple, Tuple, Union
from uuid import UUID

from ratelimiter_client.errors import ProtocolError, RateLimiterError

Headers = Tuple[Tuple[str, str], ...]
Name = Union[str, int, UUID]
Groups = Union[Tuple[Name, ...], List[Name], None]  # in their order of precedence

NOT_ASKED = "not_asked"  # the reason of a check that was not sent, because another one could not be
MAX_NUMBER = 2**53  # exact in any JSON; the service's numbers are smaller

SHAPE: dict[str, tuple[type, ...]] = {
    "allowed": (bool,),
    "remaining": (int,),
    "retry_after_ms": (int, type(None)),
    "limit": (int,),
    "window": (int,),
    "reset_at": (float, int),
    "algorithm": (str, type(None)),
    "rule_id": (int, str),
    "reason": (str,),
    "degraded": (bool,),
}
KINDS = frozenset(itertools.product(*SHAPE.values()))
VALUES = operator.itemgetter(*SHAPE)


class Check(NamedTuple):
    """One of many questions. `cost` in units, 0 to 10^9; 0 charges nothing. `groups`: up to 8 that the client is in."""

    client_id: Name
    limit_key: Name = "global"
    cost: int = 1
    request_id: Name | None = None
    groups: Groups = ()


class Decision(NamedTuple):
    """Whether the client may do this now. The fields of the service's answer come first, then the library's own.

    If the service did not decide, `error` says why, `degraded` is true, `reason` is "degraded", `allowed` follows the
    fail mode, and the numbers are 0. `client_id` and `limit_key` name the limit in decisions on requests of a web
    application; elsewhere they are empty.
    """

    allowed: bool
    remaining: int  # whole units left of the binding limit
    retry_after_ms: int | None  # 0: allowed; None: waiting never helps
    limit: int  # the most that can be admitted at once
    window: int  # seconds
    reset_at: float  # Unix time, seconds
    algorithm: str | None  # None: the rule allows or blocks without counting
    rule_id: int | str  # "default" for the built-in rule, "" if the service did not decide
    reason: str
    degraded: bool  # Redis did not decide
    headers: Headers = ()  # the RateLimit headers and Retry-After as the service sent them
    error: str | None = None  # the reason if the service did not decide
    client_id: str = ""
    limit_key: str = ""

    @property
    def breached(self) -> bool:
        """Whether the decision is a denial."""
        return not self.allowed


class Lease(NamedTuple):
    """Permits charged at once, to be used without asking. `lease_id` and `expires_at` are None if none were granted."""

    lease_id: str | None
    granted: int
    expires_at: float | None  # Unix time, seconds, by the service's clock
    decision: Decision


def decision_of(fields: dict[str, Any], headers: Headers = ()) -> Decision:
    """The decision in the service's JSON object; further members are ignored. Raises ProtocolError."""
    try:
        values = VALUES(fields)
    except (KeyError, TypeError):
        raise ProtocolError("the answer is no decision") from None
    if tuple(map(type, values)) not in KINDS:
        raise ProtocolError("the answer is no decision")
    _, remaining, wait_ms, limit, window, reset_at, _, rule_id, _, _ = values
    numbers = (remaining, wait_ms or 0, limit, window, reset_at, 0 if type(rule_id) is str else rule_id)
    if not (min(numbers) >= 0 and max(numbers) <= MAX_NUMBER and reset_at == reset_at):
        raise ProtocolError("the answer is no decision")
    return Decision._make((*values, headers, None, "", ""))


def fits(value: Any, kinds: tuple[type, ...]) -> bool:
    """Whether the value has one of these types, exactly (a bool is no int); a number must be from 0 to MAX_NUMBER."""
    kind = type(value)
    return kind in kinds and (kind not in (int, float) or 0 <= value <= MAX_NUMBER)


def denied(reason: str) -> Decision:
    """The denial of a check that no limit admits, made without asking; waiting does not help."""
    return Decision(False, 0, None, 0, 0, 0.0, None, "", reason, False)


def undecided(error: RateLimiterError, *, allowed: bool) -> Decision:
    """The decision of a fail mode."""
    wait = 0 if allowed else error.retry_after_ms
    return Decision(allowed, 0, wait, 0, 0, 0.0, None, "", "degraded", True, error=str(error))
