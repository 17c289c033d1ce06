"""The gate of ASGI applications: a Gate with an awaited client."""

from __future__ import annotations

from typing import Any, Awaitable, Dict, Protocol

from ratelimiter_client.decision import Decision, Name
from ratelimiter_client.identify import Environ
from ratelimiter_client.web.charges import RECORD, Ask
from ratelimiter_client.web.gate import DECISION, Gate, checks, context

Scope = Dict[str, Any]

CARRIED = (RECORD, DECISION)  # from one middleware to the next, which both limit a request
SINGLE = ("HTTP_AUTHORIZATION", "HTTP_X_API_KEY")


class AsyncLimiter(Protocol):
    """An AsyncRateLimiter, or its fake in tests."""

    def check(
        self,
        client_id: Name,
        limit_key: Name = ...,
        cost: int = ...,
        *,
        correlation_id: str | None = ...,
        traceparent: str | None = ...,
    ) -> Awaitable[Decision]: ...


class AsyncGate(Gate):
    """See Gate. `client` is an AsyncLimiter, because any other would block the event loop."""

    is_async = True
    clients = "an AsyncRateLimiter or an AsyncFakeLimiter"

    async def admit(self, environ: Environ) -> Decision | None:
        """As `decide`."""
        steps = self.steps(environ)
        answer: Any = None
        try:
            while True:
                question, client = steps.send(answer), self._client
                if isinstance(question, Ask):
                    names = (question.client_id, question.limit_key, question.cost)
                    answer = await client.check(*names, **question.options, **context(environ))
                else:
                    answer = await client.check_together(checks(question), **context(environ))
        except StopIteration as done:
            return done.value  # type: ignore[no-any-return]


def environ_of(scope: Scope) -> Environ:
    """The WSGI environ of a request, without the server's members; the scope itself is its `asgi.scope`.

    A header with an underscore in its name is left out, as WSGI servers do: it would look like another one. A secret
    that comes twice is none: the application may read either.
    """
    client = scope.get("client")
    environ: Environ = {
        "REQUEST_METHOD": scope.get("method", "GET"),
        "PATH_INFO": _path(scope),
        "QUERY_STRING": scope.get("query_string", b"").decode("latin-1"),
        "REMOTE_ADDR": client[0] if client else "",
        "asgi.scope": scope,
        **{name: scope[name] for name in CARRIED if name in scope},
    }
    for name, value in scope.get("headers", ()):
        if b"_" in name:
            continue
        variable = "HTTP_" + name.decode("latin-1").upper().replace("-", "_")
        text = value.decode("latin-1")
        if variable in environ:
            joined = environ[variable] + ("; " if variable == "HTTP_COOKIE" else ",") + text
            text = "" if variable in SINGLE else joined
        environ[variable] = text
    return environ


def _path(scope: Scope) -> str:
    path, root = str(scope["path"]), str(scope.get("root_path", ""))
    return path[len(root) :] if root and path.startswith(root + "/") else path
