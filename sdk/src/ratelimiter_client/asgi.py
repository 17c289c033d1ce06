"""ASGI middleware: every request of an application, and every opening of a WebSocket, is a check."""

from __future__ import annotations

from typing import Any, Awaitable, Callable, Iterable, MutableMapping

from ratelimiter_client.aio.gate import CARRIED, AsyncGate, AsyncLimiter, Scope, environ_of
from ratelimiter_client.arguments import accepts, refuse_unless
from ratelimiter_client.decision import Decision
from ratelimiter_client.identify import Environ
from ratelimiter_client.unnamed import DEFAULT_KEY
from ratelimiter_client.web.denials import CORRELATION_ID, PROBLEM, denial
from ratelimiter_client.web.exempting import Exempt
from ratelimiter_client.web.gate import Cost, Gated, Limits, Many, What, Who

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
AsgiApp = Callable[[Any, Receive, Send], Awaitable[None]]
OnDenied = Callable[[Scope, Receive, Send, Decision], Awaitable[None]]

TRY_AGAIN_LATER = 1013  # a close code of WebSocket


class RateLimitMiddleware(Gated[AsyncLimiter, AsyncGate]):
    """The application `app`, limited: `app = RateLimitMiddleware(app, AsyncRateLimiter(url))`.

    The arguments are those of the WSGI middleware. Functions among them are not async and get the same environ, with
    the ASGI scope in it as `asgi.scope`. A denied request does not reach the application: 429 with Retry-After and a
    problem document, or 503; a WebSocket is closed before it is accepted. `on_denied(scope, receive, send, decision)`
    answers instead.

    The decision is in `scope["ratelimiter.decision"]`. `client` and `enabled` may be set later.
    """

    def __init__(
        self,
        app: AsgiApp,
        client: AsyncLimiter,
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
        refuse_unless(callable(app), "app", app, "an ASGI application")
        is_called = on_denied is None or accepts(on_denied, None, None, None, None)
        refuse_unless(is_called, "on_denied", on_denied, "an async function of scope, receive, send and the decision")
        self._app = app
        self._on_denied = on_denied
        self._gate = AsyncGate(
            client,  # type: ignore[arg-type]
            identify,
            limit_key,
            limits=limits,
            cost=cost,
            groups=groups,
            trusted_proxies=trusted_proxies,
            exempt=exempt,
            enabled=enabled,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            return await self._app(scope, receive, send)
        environ = environ_of(scope)
        decision = await self._gate.admit(environ)
        if decision is None:
            return await self._app(scope, receive, send)
        carried = {name: environ[name] for name in CARRIED}
        scope = {**scope, **carried, "headers": _named(scope["headers"], environ)}
        if decision.allowed:
            return await self._app(scope, receive, _with_headers(send, decision))
        if self._on_denied is not None:
            return await self._on_denied(scope, receive, send, decision)
        return await _refuse(scope, receive, send, decision, environ)


def _with_headers(send: Send, decision: Decision) -> Send:
    async def send_with_headers(message: Message) -> None:
        if message["type"] in ("http.response.start", "websocket.accept"):
            message = {**message, "headers": [*message.get("headers", ()), *_encoded(decision.headers)]}
        await send(message)

    return send_with_headers


async def _refuse(scope: Scope, receive: Receive, send: Send, decision: Decision, environ: Environ) -> None:
    status, headers, body = denial(decision, environ)
    kind = "http.response"
    if scope["type"] == "websocket":
        await receive()  # the message `websocket.connect`
        kind = "websocket.http.response"
        if kind not in (scope.get("extensions") or ()):
            return await send({"type": "websocket.close", "code": TRY_AGAIN_LATER})
    content = [("Content-Type", PROBLEM), ("Content-Length", str(len(body)))]
    await send({"type": f"{kind}.start", "status": status, "headers": _encoded(content + headers)})
    await send({"type": f"{kind}.body", "body": b"" if scope.get("method") == "HEAD" else body})
    return None


def _named(headers: Iterable[Any], environ: Environ) -> list[Any]:
    """The headers with the correlation id that the limiter was given."""
    name, value = b"x-correlation-id", environ[CORRELATION_ID].encode("latin-1")
    return [*(pair for pair in headers if pair[0] != name), (name, value)]


def _encoded(headers: Iterable[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    return [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers]
