"""WSGI middleware: every request of an application is a check."""

from __future__ import annotations

from typing import Any, Callable, Iterable

from ratelimiter_client.arguments import function, refuse_unless
from ratelimiter_client.decision import Decision
from ratelimiter_client.identify import Environ
from ratelimiter_client.unnamed import DEFAULT_KEY
from ratelimiter_client.web.denials import PROBLEM, TITLES, denial
from ratelimiter_client.web.exempting import Exempt
from ratelimiter_client.web.gate import Cost, Gate, Gated, Limiter, Limits, Many, What, Who

StartResponse = Callable[..., Any]
WsgiApp = Callable[[Environ, StartResponse], Iterable[bytes]]
OnDenied = Callable[[Environ, StartResponse, Decision], Iterable[bytes]]


class RateLimitMiddleware(Gated[Limiter, Gate]):
    """The application `app`, limited: `app = RateLimitMiddleware(app, client)`. The arguments are those of Gate.

    A denied request does not reach it: 429 with Retry-After, the RateLimit headers of the service and a problem
    document. It is 503 if the service cannot decide and the client's fail mode is "closed". `on_denied` answers
    instead, as a WSGI application that is given the decision too.

    An admitted request reaches it, and the answer gets the RateLimit headers. The decision is in
    `environ["ratelimiter.decision"]`, with the names of its limit. `client` and `enabled` may be set later, as by
    tests.
    """

    def __init__(
        self,
        app: WsgiApp,
        client: Limiter,
        identify: Who = None,
        limit_key: What = DEFAULT_KEY,
        *,
        limits: Limits | None = None,
        cost: Cost = 1,
        groups: Many = (),
        trusted_proxies: Iterable[str] = (),
        exempt: Exempt = (),
        enabled: bool = True,
        on_denied: OnDenied | None = None,
    ) -> None:
        refuse_unless(callable(app), "app", app, "a WSGI application")
        allowed = "a function of environ, start_response and the decision"
        function("on_denied", on_denied, allowed, None, None, None)
        self._app = app
        self._on_denied = on_denied or _refuse
        self._gate = Gate(
            client,
            identify,
            limit_key,
            limits=limits,
            cost=cost,
            groups=groups,
            trusted_proxies=trusted_proxies,
            exempt=exempt,
            enabled=enabled,
        )

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        decision = self._gate.decide(environ)
        if decision is None:
            return self._app(environ, start_response)
        if not decision.allowed:
            return self._on_denied(environ, start_response, decision)

        def start_with_headers(status: str, headers: list[tuple[str, str]], *exc_info: Any) -> Any:
            return start_response(status, [*headers, *decision.headers], *exc_info)

        return self._app(environ, start_with_headers)


def _refuse(environ: Environ, start_response: StartResponse, decision: Decision) -> Iterable[bytes]:
    status, headers, body = denial(decision, environ)
    content = [("Content-Type", PROBLEM), ("Content-Length", str(len(body)))]
    start_response(f"{status} {TITLES[status]}", content + headers)
    return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]
