"""Canonical checks, served without gunicorn's parser, WSGI and Flask, which cost several times as much as a check.

All requests of one event-loop turn are answered together. The check handler decides them in one round trip to Redis,
and each answer leaves in one write.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import Any

import gevent
from gunicorn.util import close_graceful, http_date
from opentelemetry.trace import Span

from app.api.check.coalescing import CheckCoalescer, Pending, unexpected
from app.api.check.handler import CheckHandler, Reply, Request
from app.api.correlation import chosen
from app.api.problems import Problem
from app.api.request_body import LATE
from app.observability import logs
from app.server.bounded_socket import UNREAD_BYTES
from app.server.canonical_request import CanonicalRequest
from app.server.connection import Connection

CHECK_PATH = b"/v1/check"
STATUS = {status.value: f"HTTP/1.1 {status.value} {status.phrase}".encode() for status in HTTPStatus}


class FastLane:
    """Serves connections for a gunicorn worker: by its settings, with its count of requests, until it stops."""

    def __init__(self, worker: Any, handler: CheckHandler) -> None:
        self._worker = worker
        self._handler = handler
        self._coalescer = CheckCoalescer(handler, self._send_all)
        self._second, self._common = 0, b""

    def serve(self, client: Any) -> bytes | None:
        """Answer canonical checks until the connection ends (None) or sends another request (its bytes)."""
        connection = Connection(client, self)
        with self._worker.idle_timeouts.watching(connection):
            handed = connection.served()
        if connection.last:
            close_graceful(client, max_drain=UNREAD_BYTES)
        return handed

    def submit(self, connection: Connection, request: CanonicalRequest, body: bytes) -> None:
        """Answer the request: a check with the others of this event-loop turn; a batch, or a traced check, alone."""
        handler = self._handler
        check = Request(body, request.credentials, chosen(request.correlation_id), request.parent)
        if request.path != CHECK_PATH:
            gevent.spawn_raw(self._answer_alone, connection, handler.handle_batch, check)
        elif handler.traced and (span := handler.span(check)) is not None:
            gevent.spawn_raw(self._answer_alone, connection, handler.handle_check, check, span)
        else:
            self._coalescer.add(connection, check)

    def admits(self, request: CanonicalRequest) -> bool:
        """Whether the caller may check."""
        try:
            self._handler.admit(request.credentials)
        except Problem:
            return False
        return True

    def late(self, connection: Connection, request: CanonicalRequest) -> None:
        """Refuse a request whose body did not arrive in time."""
        reply = self._handler.refuse(Problem(408, LATE), correlation_id := chosen(request.correlation_id))
        self._send(connection, reply, correlation_id, self._server_and_date(), True)
        logs.correlation_id.set(logs.NO_REQUEST)  # later log lines of the event loop belong to no request

    def hurried(self) -> bool:
        """Whether the worker needs its connections for others, or is to stop."""
        hurried: bool = self._worker.hurried()
        return hurried

    def _answer_alone(
        self, connection: Connection, handle: Callable[..., Reply], request: Request, *span: Span
    ) -> None:
        try:
            reply = handle(request, *span)
        except Exception:
            reply = unexpected(self._handler, request)
        self._send_all([(connection, request)], [reply])

    def _send_all(self, pending: Sequence[Pending[Connection]], replies: Sequence[Reply]) -> None:
        worker, now, common = self._worker, time.monotonic(), self._server_and_date()
        worker.nr += len(pending)
        if worker.nr >= worker.max_requests and worker.alive:
            worker.log.info("Autorestarting worker after current request.")
            worker.alive = False
        for (connection, request), reply in zip(pending, replies, strict=True):
            connection.since = now
            try:
                self._send(connection, reply, request.correlation_id, common, not worker.alive)
            except Exception:  # a failure of one connection must not affect the others
                worker.log.exception("Error sending an answer")
                connection.end()

    def _send(self, connection: Connection, reply: Reply, correlation_id: str, common: bytes, close: bool) -> None:
        answer = b"%b%bConnection: %b\r\nContent-Length: %d\r\n%bX-Correlation-ID: %b\r\n\r\n%b" % (
            STATUS[reply.status],
            common,
            b"close" if close else b"keep-alive",
            len(reply.body),
            reply.head,
            correlation_id.encode(),
            reply.body,
        )
        connection.answer(answer, close=close)

    def _server_and_date(self) -> bytes:
        second = int(time.time())
        if second != self._second:
            self._second = second
            self._common = b"\r\nServer: gunicorn\r\nDate: %b\r\n" % http_date(second).encode()
        return self._common
