"""The common core of the middlewares: the limits that hold for a request, and their decision."""

from __future__ import annotations

import inspect
from functools import reduce
from typing import (
    Any,
    Callable,
    Generator,
    Generic,
    Iterable,
    List,
    NamedTuple,
    Optional,
    Protocol,
    Sequence,
    Tuple,
    TypeVar,
    Union,
)

from ratelimiter_client import arguments
from ratelimiter_client.decision import NOT_ASKED, Check, Decision, Groups, Lease, Name
from ratelimiter_client.http.questions import MAX_CLIENT_ID, MAX_LIMIT_KEY, group_names, integer, literal
from ratelimiter_client.identify import Environ, address
from ratelimiter_client.unnamed import DEFAULT_KEY
from ratelimiter_client.web.charges import Ask, Charges, Hold
from ratelimiter_client.web.denials import correlation_id
from ratelimiter_client.web.exempting import Exempt, exempting

DECISION = "ratelimiter.decision"  # in the environ, for the application

Who = Union[str, Callable[[Environ], Optional[Name]], Callable[[], Optional[Name]], None]
What = Union[str, Callable[[Environ], Optional[str]], Callable[[], Optional[str]]]
Cost = Union[int, Callable[[Environ], int], Callable[[], int]]
Many = Union[Groups, Callable[[Environ], Groups], Callable[[], Groups]]
Limits = Sequence[Tuple[Who, What]]
# Either one question, or several of which all are charged, or none; answered by a decision, or by as many.
Steps = Generator[Union[Ask, List[Ask]], Any, Optional[Decision]]
C = TypeVar("C")


class Limiter(Protocol):
    """A RateLimiter, a LeasedLimiter, or a fake in tests. Only `deduct_when` uses leases.

    Where there are groups, `check` and `lease` are called with `groups` too. A limiter with `check_together` decides
    several limits by it.
    """

    def check(
        self,
        client_id: Name,
        limit_key: Name = ...,
        cost: int = ...,
        *,
        correlation_id: str | None = ...,
        traceparent: str | None = ...,
    ) -> Decision: ...

    def lease(self, client_id: Name, limit_key: Name, permits: int, ttl: float) -> Lease: ...

    def return_lease(self, lease_id: str, unused: int) -> int: ...


class Limit(NamedTuple):
    """A client, a limit key, a cost and groups; where it is None, those of the gate.

    `deduct_when`: a function of the answer.
    """

    identify: Any = None
    limit_key: Any = DEFAULT_KEY
    cost: Any = None
    deduct_when: Callable[[Any], Any] | None = None
    groups: Any = None


class Gate:
    """Decides about requests, given as WSGI environs.

    `identify`: the client id, or a function of the environ. Where it is missing or gives None, the remote address
    counts, so that no client escapes by leaving something out. `limit_key`: likewise, "global" where it gives None.
    `limits`: (identify, limit_key) pairs instead, at least one, all of which must admit. `cost`: units, or a function.
    `groups`: the names of up to 8 groups of the client, the most important first, or a function that returns them.

    `trusted_proxies`: as for identify.address. `exempt`: paths that are never limited (`/health`, `/static/*`),
    functions, or a list of both. `enabled=False` limits nothing. `client` and `enabled` may be set later. Raises
    TypeError or ValueError for a wrong argument.
    """

    is_async = False
    clients = "a RateLimiter, a LeasedLimiter or a FakeLimiter"

    def __init__(
        self,
        client: Limiter | None,
        identify: Who = None,
        limit_key: What = DEFAULT_KEY,
        *,
        limits: Limits | None = None,
        cost: Cost = 1,
        groups: Many = (),
        trusted_proxies: Iterable[str] = (),
        exempt: Exempt = (),
        enabled: bool = True,
    ) -> None:
        arguments.refuse_unless(isinstance(enabled, bool), "enabled", enabled, "True or False")
        self.enabled = enabled
        self.client = client
        self.limits: list[Limit] = [
            Limit(*pair) for pair in arguments.pairs([(identify, limit_key)] if limits is None else limits)
        ]
        self._identify = arguments.who(identify)
        self._cost = arguments.units(cost)
        self._groups = arguments.groups(groups)
        self._address = address(trusted_proxies)
        self._is_exempt = exempting(exempt)

    @property
    def client(self) -> Limiter:
        """The client that decides; it may be None where nothing is limited."""
        found: Limiter = self._client
        return found

    @client.setter
    def client(self, client: Limiter | None) -> None:
        """Raises TypeError for an unsuitable client."""
        check = getattr(client, "check", None)
        fits = callable(check) and inspect.iscoroutinefunction(check) == self.is_async
        arguments.refuse_unless(fits or (client is None and not self.enabled), "client", client, self.clients)
        self._client: Any = client
        self._asks_together = callable(getattr(client, "check_together", None))

    def decide(self, environ: Environ, limits: Iterable[Limit] | None = None) -> Decision | None:
        """The first denial, else the admission with the least left, also in the environ; None: the request is not
        limited.

        Several limits are charged together, or none is, in one round trip. They are asked in turn where one has
        `deduct_when`, where the request was charged before, and where the client has no `check_together`. Then limits
        before one that denies have been charged, those after it have not. Put limits first that strangers cannot spend
        for others: the address before the name of an account.
        """
        steps = self.steps(environ, limits)
        answer: Any = None
        try:
            while True:
                question = steps.send(answer)
                ask: Any = self._answer if isinstance(question, Ask) else self._answers
                answer = ask(question, environ)
        except StopIteration as done:
            return done.value  # type: ignore[no-any-return]

    def steps(self, environ: Environ, limits: Iterable[Limit] | None = None) -> Steps:
        """As `decide`, but yields each question, which is to be answered by the decision on it."""
        if not self.enabled or self._is_exempt(environ):
            return None
        charges, found = Charges.of(environ), list(self.limits if limits is None else limits)
        held = any(limit.deduct_when is not None for limit in found)
        together = len(found) > 1 and self._asks_together and charges.untouched and not held
        decide = self._together if together else self._in_turn
        tightest = yield from decide(charges, found, environ)
        if tightest is not None:
            environ[DECISION] = tighter(environ.get(DECISION), tightest)
        return tightest

    def _together(self, charges: Charges, limits: list[Limit], environ: Environ) -> Steps:
        asks = [self._asked(limit, environ) for limit in limits]
        answers: list[Decision] = yield asks
        decisions = [_named(decision, ask) for decision, ask in zip(answers, asks)]
        charges.together(self.client, asks, decisions)
        charges.decisions += decisions
        denials = [decision for decision in decisions if not decision.allowed]
        told = [denial for denial in denials if denial.reason != NOT_ASKED] or denials or decisions
        return told[0] if denials else reduce(tighter, told)

    def _in_turn(self, charges: Charges, limits: list[Limit], environ: Environ) -> Steps:
        tightest = None
        for limit in limits:
            ask = self._asked(limit, environ)
            decision = yield from charges.steps(self.client, ask)
            decision = _named(decision, ask)
            charges.decisions.append(decision)
            tightest = decision if not decision.allowed else tighter(tightest, decision)
            if not decision.allowed:
                break
        return tightest

    def _asked(self, limit: Limit, environ: Environ) -> Ask:
        """The question of a limit. Raises TypeError for an invalid name."""
        client_id = _value(self._identify if limit.identify is None else limit.identify, environ)
        if client_id is None or client_id == "":
            client_id = self._address(environ)
        limit_key = _value(limit.limit_key, environ)
        if limit_key is None or limit_key == "":
            limit_key = DEFAULT_KEY
        return Ask(
            literal("client_id", client_id, MAX_CLIENT_ID),
            literal("limit_key", limit_key, MAX_LIMIT_KEY),
            integer("cost", _value(self._cost if limit.cost is None else limit.cost, environ)),
            None if limit.deduct_when is None else Hold(limit.deduct_when),
            group_names(_value(self._groups if limit.groups is None else limit.groups, environ)),
        )

    def _answer(self, ask: Ask, environ: Environ) -> Decision:
        held = None if ask.hold is None else ask.hold.take(self.client, ask)
        if held is not None:
            return held
        return self.client.check(
            ask.client_id,
            ask.limit_key,
            ask.cost,
            **ask.options,
            **context(environ),
        )

    def _answers(self, asks: list[Ask], environ: Environ) -> list[Decision]:
        return self._client.check_together(checks(asks), **context(environ))  # type: ignore[no-any-return]


def context(environ: Environ) -> dict[str, Any]:
    """What a request's own trace is, as arguments of a call."""
    return {"correlation_id": correlation_id(environ), "traceparent": environ.get("HTTP_TRACEPARENT")}


def checks(asks: list[Ask]) -> list[Check]:
    return [Check(ask.client_id, ask.limit_key, ask.cost, groups=ask.groups) for ask in asks]


def _named(decision: Decision, ask: Ask) -> Decision:
    return decision._replace(client_id=ask.client_id, limit_key=ask.limit_key)


G = TypeVar("G", bound=Gate)


class Gated(Generic[C, G]):
    """An application behind a gate. `client` and `enabled` may be set later, as by tests."""

    _gate: G

    @property
    def client(self) -> C:
        """The client that decides."""
        found: Any = self._gate.client
        return found  # type: ignore[no-any-return]

    @client.setter
    def client(self, client: C) -> None:
        self._gate.client = client  # type: ignore[assignment]

    @property
    def enabled(self) -> bool:
        """Whether any request is limited."""
        return self._gate.enabled

    @enabled.setter
    def enabled(self, enabled: bool) -> None:
        self._gate.enabled = enabled


def tighter(one: Decision | None, other: Decision) -> Decision:
    """The one of two that denies, else the one decided by Redis, else the one with less left."""
    if one is None or not other.allowed:
        return other
    return min(one, other, key=lambda known: (known.allowed, known.degraded, known.remaining))


def _value(given: Any, environ: Environ) -> Any:
    return given(environ) if callable(given) else given
