"""Plain checks, served without gunicorn's parser, WSGI and Flask.

The stock machinery costs several times what a check costs. Here all requests that came in one turn of the event loop
are answered together: the check handler decides them in one trip to Redis, and each answer leaves in one write.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, NamedTuple

import gevent
from gunicorn.util import close_graceful, http_date

from app.api.auth import Credentials
from app.api.bodies import LATE
from app.api.correlation import chosen
from app.api.handler import CheckHandler, Reply, Request
from app.api.problems import UNEXPECTED, Problem
from app.server.connection import UNREAD_BYTES, Connection, Handed
from app.server.plain import Plain

CHECK = b"/v1/check"
STATUS = {status.value: f"HTTP/1.1 {status.value} {status.phrase}".encode() for status in HTTPStatus}


class Taken(NamedTuple):
    """A request to answer, and on which connection."""

    connection: Connection
    request: Request


class FastLane:
    """Serves connections for a gunicorn worker, whose settings, request count and will to live it shares."""

    def __init__(self, worker: Any, handler: CheckHandler) -> None:
        self._worker = worker
        self._handler = handler
        self._connections: set[Connection] = set()
        self._taken: list[Taken] = []  # in this turn of the loop
        self._second, self._common = 0, b""
        gevent.spawn(self._sweep)

    def serve(self, client: Any) -> Handed | None:
        """Answer plain checks until the connection ends (None) or brings something else (what is to go on with it)."""
        connection = Connection(client, self)
        self._connections.add(connection)
        try:
            handed = connection.served()
        finally:
            self._connections.discard(connection)
        if connection.busy and handed is None:  # ended by its last answer
            close_graceful(client, max_drain=UNREAD_BYTES)
        return handed

    def take(self, connection: Connection, request: Plain, body: bytes) -> None:
        """Answer the request: a single check with the others of this turn, a batch by itself."""
        taken = Taken(connection, Request(body, request.credentials, chosen(request.correlation_id)))
        if request.path != CHECK:
            gevent.spawn_raw(self._answer_alone, self._handler.handle_batch, taken)
        elif self._handler.traced:  # each in a span of its own
            gevent.spawn_raw(self._answer_alone, self._handler.handle_check, taken)
        else:
            if not self._taken:
                gevent.spawn_raw(self._end_turn)
            self._taken.append(taken)

    def late(self, connection: Connection, request: Plain) -> None:
        """Refuse a request whose body did not arrive in time."""
        reply = self._handler.refuse(Problem(408, LATE), correlation_id := chosen(request.correlation_id))
        self._send(connection, reply, correlation_id, close=True)

    def _end_turn(self) -> None:
        taken, self._taken = self._taken, []
        self._answer_checks(taken)

    def _answer_checks(self, taken: list[Taken]) -> None:
        try:
            replies = self._handler.handle_checks([request for _, request in taken])
        except Exception:
            replies = [self._unexpected(request) for _, request in taken]
        self._send_all(taken, replies)

    def _answer_alone(self, handle: Callable[[bytes, Credentials, str], Reply], taken: Taken) -> None:
        try:
            reply = handle(*taken.request)
        except Exception:
            reply = self._unexpected(taken.request)
        self._send_all([taken], [reply])

    def _unexpected(self, request: Request) -> Reply:
        reply = self._handler.refuse(Problem(500, UNEXPECTED), request.correlation_id)
        self._worker.log.exception("Error handling request")
        return reply

    def _send_all(self, taken: list[Taken], replies: list[Reply]) -> None:
        worker, now = self._worker, time.monotonic()
        worker.nr += len(taken)
        if worker.nr >= worker.max_requests and worker.alive:
            worker.log.info("Autorestarting worker after current request.")
            worker.alive = False
        for (connection, request), reply in zip(taken, replies, strict=True):
            connection.since = now
            try:
                self._send(connection, reply, request.correlation_id, close=not worker.alive)
            except Exception:  # a bug that one connection meets is not for those beside it
                worker.log.exception("Error sending an answer")
                connection.end()

    def _send(self, connection: Connection, reply: Reply, correlation_id: str, *, close: bool) -> None:
        answer = b"%b%bConnection: %b\r\nContent-Length: %d\r\n%bX-Correlation-ID: %b\r\n\r\n%b" % (
            STATUS[reply.status],
            self._server_and_date(),
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

    def _sweep(self) -> None:
        """End connections that have waited for `keepalive` seconds, or for one, once the worker is to stop.

        Who asks again within that second is told that it was the last answer there; a close might meet his request.
        One look a second at all of them costs less than a timer for each request.
        """
        while True:
            gevent.sleep(1)
            patience = self._worker.cfg.keepalive if self._worker.alive else 1
            for connection in list(self._connections):
                connection.expire(time.monotonic() - patience)
