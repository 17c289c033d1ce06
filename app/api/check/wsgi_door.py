"""The WSGI door to the check handler, in front of Flask, which costs several times as much as a check.

It answers every POST to the two routes of checks, and a proxy's GET of `/v1/authorize` without a body. Flask answers
everything else, and leaves other forward-auth decisions to the same check handler.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from http import HTTPStatus
from typing import Any

from gevent.event import AsyncResult
from werkzeug.http import parse_options_header

from app.api.auth import Credentials
from app.api.check.coalescing import CheckCoalescer, Pending, unexpected
from app.api.check.handler import CHECK_SPAN, CheckHandler, Reply, Request
from app.api.correlation import HEADER, chosen
from app.api.forward_auth.authorizer import Authorizer, simple_query
from app.api.problems import Problem
from app.api.request_body import leave_unread, read_body
from app.api.strict_json import JSON_TYPES, require_json
from app.observability import logs
from app.observability.tracing import parent_of

STATUS = {status.value: f"{status.value} {status.phrase}" for status in HTTPStatus}
AUTHORIZE_PATH = "/v1/authorize"
BODY = {"CONTENT_LENGTH", "HTTP_TRANSFER_ENCODING"}  # a GET seldom has either
WsgiApp = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class WsgiDoor:
    """WSGI application; `rest` is the application for everything else."""

    def __init__(self, handler: CheckHandler, authorizer: Authorizer, rest: WsgiApp) -> None:
        self._handler = handler
        self._authorizer = authorizer
        self._handlers = {"/v1/check": self._check, "/v1/check/batch": handler.handle_batch}
        self._coalescer = CheckCoalescer(handler, _hand_out)
        self._rest = rest

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        handle = self._way(environ)
        if handle is None:
            return self._rest(environ, start_response)
        correlation_id = chosen(environ.get("HTTP_X_CORRELATION_ID"))
        logs.correlation_id.set(correlation_id)
        credentials = Credentials(environ.get("HTTP_AUTHORIZATION"), environ.get("HTTP_X_API_KEY"))
        parent = parent_of(environ.get("HTTP_TRACEPARENT"), environ.get("HTTP_TRACESTATE"))
        request = Request(b"", credentials, correlation_id, parent)
        try:
            reply = handle(request)
        except Problem as problem:
            reply = self._handler.refuse(problem, correlation_id)
        except Exception:
            reply = unexpected(self._handler, request)
        length = str(len(reply.body))
        start_response(STATUS[reply.status], [*reply.headers, ("Content-Length", length), (HEADER, correlation_id)])
        return [reply.body]

    def _way(self, environ: dict[str, Any]) -> Callable[[Request], Reply] | None:
        """The function that answers the request; None: Flask answers it."""
        path, method = environ["PATH_INFO"], environ["REQUEST_METHOD"]
        if method == "POST" and path in self._handlers:
            handle = self._handlers[path]
            return lambda request: handle(request._replace(raw_body=self._body(environ, request)))
        if method == "GET" and path == AUTHORIZE_PATH and not BODY & environ.keys():
            question = simple_query(environ["QUERY_STRING"])
            return question and (lambda request: self._authorize(environ, request, *question))
        return None

    def _body(self, environ: dict[str, Any], request: Request) -> bytes:
        content_type = environ.get("CONTENT_TYPE", "")
        if content_type not in JSON_TYPES:
            try:
                require_json(parse_options_header(content_type)[0].lower())
            except Problem:
                leave_unread(environ)
                raise
        return read_body(environ, partial(self._handler.admit, request.credentials))

    def _authorize(self, environ: dict[str, Any], request: Request, limit_key: str, cost: int) -> Reply:
        def header(name: str) -> str | None:
            return environ.get(f"HTTP_{name.upper().replace('-', '_')}")

        check = self._authorizer.with_check(request, limit_key, cost, peer=environ["REMOTE_ADDR"], header=header)
        return self._check(check, f"GET {AUTHORIZE_PATH}")

    def _check(self, request: Request, name: str = CHECK_SPAN) -> Reply:
        """Answer a check together with the others of this event-loop turn; a traced check is answered alone."""
        span = self._handler.span(request, name)
        if span is not None:
            return self._handler.handle_check(request, span)
        waiter = AsyncResult()
        self._coalescer.add(waiter, request)
        reply: Reply = waiter.get()
        return reply


def _hand_out(pending: Sequence[Pending[AsyncResult]], replies: Sequence[Reply]) -> None:
    for (waiter, _), reply in zip(pending, replies, strict=True):
        waiter.set(reply)
