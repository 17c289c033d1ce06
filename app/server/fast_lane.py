"""A connection of plain checks, served without gunicorn's parser, WSGI and Flask.

The stock machinery costs several times what a check costs. This loop reads a request, has the check handler answer it,
and sends the answer in one write, for as long as the requests are plain (app/server/plain.py).
"""

from __future__ import annotations

import contextlib
import socket
import time
from http import HTTPStatus
from typing import Any

import gevent
from gunicorn.util import http_date

from app.api.auth import Credentials
from app.api.bodies import LATE, MAX_BYTES, SECONDS
from app.api.correlation import chosen
from app.api.handler import CheckHandler, Reply
from app.api.problems import UNEXPECTED, Problem
from app.server.plain import MAX_HEAD, Plain, plain

READ_BYTES = 16 * 1024
LIMITS = {path.encode(): limit for path, limit in MAX_BYTES.items()}
STATUS = {status.value: f"{status.value} {status.phrase}".encode() for status in HTTPStatus}


class Handed:
    """A connection whose first bytes were read already: reading it begins with them. Otherwise the socket itself."""

    def __init__(self, client: Any, read: bytes) -> None:
        self._client = client
        self._read = read

    def recv(self, size: int, *flags: int) -> bytes:
        if self._read:
            data, self._read = self._read[:size], self._read[size:]
            return data
        data = self._client.recv(size, *flags)
        return bytes(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)


class FastLane:
    """Serves connections for a gunicorn worker, whose settings, request count and will to live it shares."""

    def __init__(self, worker: Any, handler: CheckHandler) -> None:
        self._worker = worker
        self._handler = handler
        self._handlers = {b"/v1/check": handler.handle_check, b"/v1/check/batch": handler.handle_batch}
        self._date, self._date_second = b"", 0
        self._waiting: dict[Any, float] = {}  # connections between two requests, since when
        gevent.spawn(self._sweep)

    def serve(self, client: Any) -> Handed | None:
        """Answer plain checks until the connection ends (None) or brings something else (what is to go on with it)."""
        read = b""
        while True:
            read = read or self._next(client)
            if not read:
                return None
            end = read.find(b"\r\n\r\n", 0, MAX_HEAD) + 4
            request = plain(read[:end]) if end > 3 else None
            if request is None or request.length > LIMITS[request.path]:
                return Handed(client, read)
            try:
                read = self._whole(client, read, end + request.length)
            except TimeoutError:
                late = self._handler.refuse(Problem(408, LATE), chosen(request.correlation_id))
                self._send(client, late, close=True)
                return None
            body, rest = read[end : end + request.length], read[end + request.length :]
            if len(body) < request.length:
                return Handed(client, read)  # it ended too early
            if not self._answer(client, request, body):
                return None
            read = rest

    def _next(self, client: Any) -> bytes:
        """The first bytes of another request; none where there is no other, or not in time."""
        self._waiting[client] = time.monotonic()
        try:
            return bytes(client.recv(READ_BYTES))
        finally:
            del self._waiting[client]

    def _sweep(self) -> None:
        """End connections that have waited for `keepalive` seconds; all that wait, once the worker is to stop.

        One look a second at all of them costs less than a timer for each request.
        """
        while True:
            gevent.sleep(1)
            oldest = time.monotonic() - self._worker.cfg.keepalive
            for client, since in list(self._waiting.items()):
                if since < oldest or not self._worker.alive:
                    with contextlib.suppress(OSError):
                        client.shutdown(socket.SHUT_RD)

    def _whole(self, client: Any, read: bytes, length: int) -> bytes:
        """At least `length` bytes, less only where the other side sent no more. Raises TimeoutError."""
        if len(read) >= length:
            return read
        deadline = time.monotonic() + SECONDS
        while len(read) < length:
            client.settimeout(max(0.001, deadline - time.monotonic()))
            data = client.recv(READ_BYTES)
            if not data:
                break
            if time.monotonic() > deadline:
                raise TimeoutError
            read += data
        client.settimeout(None)
        return read

    def _answer(self, client: Any, request: Plain, body: bytes) -> bool:
        """Send the reply. False where the connection ends with it."""
        worker = self._worker
        worker.nr += 1
        if worker.nr >= worker.max_requests and worker.alive:
            worker.log.info("Autorestarting worker after current request.")
            worker.alive = False
        self._send(client, self._reply(request, body), close=not worker.alive)
        return bool(worker.alive)

    def _reply(self, request: Plain, body: bytes) -> Reply:
        correlation_id = chosen(request.correlation_id)
        try:
            credentials = Credentials(request.authorization, request.api_key)
            return self._handlers[request.path](body, credentials, correlation_id)
        except Exception:
            self._worker.log.exception("Error handling request")
            return self._handler.refuse(Problem(500, UNEXPECTED), correlation_id)

    def _send(self, client: Any, reply: Reply, *, close: bool) -> None:
        answer = b"HTTP/1.1 %b\r\nServer: gunicorn\r\nDate: %b\r\nConnection: %b\r\nContent-Length: %d\r\n%b\r\n%b" % (
            STATUS[reply.status],
            self._now(),
            b"close" if close else b"keep-alive",
            len(reply.body),
            reply.head,
            reply.body,
        )
        sent = client.send(answer)  # nearly always all of it; sendall has its price
        if sent < len(answer):
            client.sendall(answer[sent:])

    def _now(self) -> bytes:
        second = int(time.time())
        if second != self._date_second:
            self._date, self._date_second = http_date(second).encode(), second
        return self._date
