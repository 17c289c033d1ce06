"""What the middlewares share: which limits hold for a request, and what to answer to one that they deny."""

from __future__ import annotations

import json
from inspect import signature
from typing import Any, Callable, Iterable, NamedTuple, Optional, Protocol, Sequence, Union
from uuid import uuid4

from ratelimiter_client import arguments
from ratelimiter_client.client import RateLimiter
from ratelimiter_client.decision import Decision
from ratelimiter_client.identify import Environ, Identify, address
from ratelimiter_client.questions import TOKEN

CLIENT_OPTIONS = ("url", "api_key", "timeout", "fail_mode", "retry", "ca_file", "max_idle_connections")
DECISION = "ratelimiter.decision"  # in the environ, for the application
CORRELATION_ID = "HTTP_X_CORRELATION_ID"
TITLES = {429: "Too Many Requests", 503: "Service Unavailable"}
DEFAULT_KEY = "global"

Who = Union[str, Identify, None]
What = Union[str, Callable[[Environ], Optional[str]]]
Exempt = Union[Iterable[str], Callable[[Environ], bool]]


class Limiter(Protocol):
    """A RateLimiter, or a LeasedLimiter."""

    def check(
        self,
        client_id: str,
        limit_key: str = ...,
        cost: int = ...,
        *,
        correlation_id: str | None = ...,
        traceparent: str | None = ...,
    ) -> Decision: ...


class Denial(NamedTuple):
    """An answer: 429 where a limit denies, 503 where fail mode "closed" does."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes


class Gate:
    """Decides about requests, given as WSGI environs.

    `identify`: whom to count, a client id or a function of the environ; by remote address where it is not given, and
    wherever it gives None, so that nobody escapes by leaving something out. `limit_key`: likewise, "global" where it
    gives None. `limits`: (identify, limit_key) pairs instead, at least one, all of which must admit. `cost`: units, or
    a function. `trusted_proxies`: as for identify.address. `exempt`: paths that are never limited (`/health`,
    `/static/*`), or a function. Raises TypeError or ValueError for a wrong argument.
    """

    def __init__(
        self,
        limiter: Limiter,
        identify: Who = None,
        limit_key: What = DEFAULT_KEY,
        *,
        limits: Sequence[tuple[Who, What]] | None = None,
        cost: int | Callable[[Environ], int] = 1,
        trusted_proxies: Iterable[str] = (),
        exempt: Exempt = (),
    ) -> None:
        can_check = callable(getattr(limiter, "check", None))
        arguments.refuse_unless(can_check, "client", limiter, "a RateLimiter or a LeasedLimiter")
        self._limiter = limiter
        self._identify = identify
        self._limits = arguments.pairs([(identify, limit_key)] if limits is None else limits)
        self._cost = arguments.units(cost)
        self._address = address(trusted_proxies)
        self._is_exempt = exempt if callable(exempt) else _paths(exempt)

    def decide(self, environ: Environ, limits: Sequence[tuple[Who, What]] | None = None) -> Decision | None:
        """The first denial, else the admission with the least left; None where nothing limits the request.

        In order: what stands before a limit that denies has been charged, what stands after it has not. Put first what
        a stranger cannot spend for others: the address before the name of an account.
        """
        if self._is_exempt(environ):
            return None
        tightest = None
        # Two that come to the same are one. In a dict, since a set has no order.
        for client_id, limit_key in dict.fromkeys(self._named(pair, environ) for pair in limits or self._limits):
            decision = self._limiter.check(
                client_id,
                limit_key,
                _value(self._cost, environ),
                correlation_id=correlation_id(environ),
                traceparent=environ.get("HTTP_TRACEPARENT"),
            )
            if not decision.allowed:
                return decision
            tightest = tighter(tightest, decision)
        return tightest

    def _named(self, pair: tuple[Who, What], environ: Environ) -> tuple[str, str]:
        who, what = pair
        client_id = _value(self._identify if who is None else who, environ)
        return str(client_id or self._address(environ)), _value(what, environ) or DEFAULT_KEY


def configured(options: dict[str, Any]) -> Gate:
    """Of settings with the names of the arguments of Gate (its limiter: `client`), or else of RateLimiter."""
    known = {"client", *CLIENT_OPTIONS, *signature(Gate).parameters} - {"limiter"}
    for name in options.keys() - known:
        raise TypeError(f"{name!r} is not a setting, allowed are {', '.join(sorted(known))}")
    if not (options.get("client") or options.get("url")):
        raise ValueError('there is no url: set RATELIMITER_URL (of Django: "URL" in RATELIMITER)')
    own = {name: value for name, value in options.items() if name not in ("client", *CLIENT_OPTIONS)}
    client = options.get("client") or RateLimiter(**{name: options[name] for name in CLIENT_OPTIONS if name in options})
    return Gate(client, **own)


def tighter(one: Decision | None, other: Decision) -> Decision:
    """Of two that admit: the one that was decided, with less left."""
    return one if one is not None and (one.degraded, one.remaining) <= (other.degraded, other.remaining) else other


def correlation_id(environ: Environ) -> str:
    """The request's own where it is well-formed, else a new one; kept in the environ."""
    sent = environ.get(CORRELATION_ID)
    if sent is None or not TOKEN.fullmatch(sent):
        environ[CORRELATION_ID] = sent = str(uuid4())
    return str(sent)


def denial(decision: Decision, environ: Environ) -> Denial:
    """What a client whose request was denied is told, as an RFC 9457 problem document."""
    status = 429 if decision.error is None else 503
    wait_ms = decision.retry_after_ms
    document = {
        "type": "about:blank",
        "title": TITLES[status],
        "status": status,
        "detail": _detail(status, wait_ms),
        "correlation_id": correlation_id(environ),
        "retry_after_ms": wait_ms,
    }
    headers = [(name, value) for name, value in decision.headers if name != "Retry-After"]
    headers += [] if wait_ms is None else [("Retry-After", str(-(-wait_ms // 1000)))]
    headers.append(("X-Correlation-ID", correlation_id(environ)))
    return Denial(status, headers, json.dumps(document, separators=(",", ":")).encode())


def _detail(status: int, wait_ms: int | None) -> str:
    if status == 503:
        return "whether the request is within its limits cannot be told right now"
    return "waiting does not help" if wait_ms is None else f"ask again in {wait_ms / 1000:.15g} seconds"


def _value(given: Any, environ: Environ) -> Any:
    return given(environ) if callable(given) else given


def _paths(given: Iterable[str]) -> Callable[[Environ], bool]:
    paths = (given,) if isinstance(given, str) else tuple(given)
    exact = frozenset(path for path in paths if not path.endswith("*"))
    beginnings = tuple(path[:-1] for path in paths if path.endswith("*"))

    def is_exempt(environ: Environ) -> bool:
        path = environ.get("PATH_INFO", "")
        # /static/../login may be /login to the application
        return path in exact or (path.startswith(beginnings) and "/.." not in path)

    return is_exempt
