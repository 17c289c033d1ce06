"""A client's connection in the fast lane, driven by the event loop: bytes in, canonical requests out, answers back.

A greenlet for each request would cost more than the check. Instead the loop calls `_readable` when bytes have come. The
greenlet that gunicorn started for the connection only waits for its end.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import gevent
from gevent import get_hub, getcurrent

from app.api.request_body import BODY_SECONDS, MAX_BYTES, SHORT_BODY_BYTES
from app.server.canonical_request import MAX_CANONICAL_HEAD, CanonicalRequest, parse_canonical
from app.server.sending import Sender

READ_BYTES = 16 * 1024  # further bytes wait in the socket
READABLE = 1  # the event mask of an io watcher
MAX_BODY_BYTES = {path.encode(): limit for path, limit in MAX_BYTES.items()}

log = logging.getLogger(__name__)


class Lane(Protocol):
    """The receiver of a connection's requests. `submit` leads to one `answer`, `late` to one that closes.

    `admits`: whether the caller may check; called before the connection waits for a long body. `hurried`: whether the
    worker needs the connection for others, or stops.
    """

    def submit(self, connection: Connection, request: CanonicalRequest, body: bytes) -> None: ...

    def admits(self, request: CanonicalRequest) -> bool: ...

    def late(self, connection: Connection, request: CanonicalRequest) -> None: ...

    def hurried(self) -> bool: ...


class Incomplete(NamedTuple):
    """A request whose body has not arrived completely."""

    request: CanonicalRequest
    body: int  # the offset of the body
    end: int
    read: bytearray  # grows without being copied, however small its parts are


class Connection:
    """Takes over a connected gevent socket. One request is answered at a time; later ones wait in the socket.

    A failure here, even a bug, ends this connection and no other.
    """

    __slots__ = (
        "_client",
        "_ended",
        "_greenlet",
        "_handed",
        "_incomplete",
        "_lane",
        "_read",
        "_reading",
        "_timer",
        "_watcher",
        "busy",
        "last",
        "since",
    )

    def __init__(self, client: Any, lane: Lane) -> None:
        client.settimeout(0)
        self._client = client
        self._lane = lane
        self._read = b""
        self._watcher = get_hub().loop.io(client.fileno(), READABLE)
        self._reading = True  # whether the watcher is active: asking it costs more
        self._incomplete: Incomplete | None = None
        self._timer: Any = None  # runs while a body is incomplete
        self._greenlet = getcurrent()
        self._handed: bytes | None = None
        self._ended = False
        self.busy = False  # a request is being answered
        self.last = False  # the answer that ended the connection was sent
        self.since = time.monotonic()  # the time of the last answer, in monotonic seconds

    def served(self) -> bytes | None:
        """Wait for the end of the connection (None), or for a request that is not canonical: its bytes, for
        gunicorn.
        """
        self._watcher.start(self._readable)
        try:
            while not self._ended:
                get_hub().switch()
        finally:
            self._ended = True
            self._watcher.stop()
            self._watcher.close()
            self._stop_timer()
        return self._handed

    def expire(self, before: float) -> None:
        """End the connection if it has been idle since before `before` (monotonic seconds) and its socket is empty."""
        if self._idle and self.since < before:
            self._readable()
            if self._idle:
                self.end()

    @property
    def _idle(self) -> bool:
        return not self.busy and not self._read

    def end(self, handed: bytes | None = None) -> None:
        """Let `served` return. Safe to repeat."""
        if not self._ended:
            self._ended, self._handed = True, handed
            self._watcher.stop()
            get_hub().loop.run_callback(self._wake)

    def answer(self, data: bytes, *, close: bool) -> None:
        """Send the answer to the submitted request, then go on with the next one."""
        if self._ended:  # its greenlet was killed meanwhile
            return
        try:
            sent = self._client.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            self.end()
            return
        if sent == len(data):
            self._answered(close)
        else:
            gevent.spawn_raw(self._answer_slowly, data[sent:], close)

    def _answer_slowly(self, rest: bytes, close: bool) -> None:
        """Send the rest of an answer that the client reads slowly or not at all."""
        try:
            Sender(self._client, self._lane.hurried).send(rest)
        except OSError:
            self.end()
        else:
            self.since = time.monotonic()
            self._guarded(self._answered, close)

    def _answered(self, close: bool) -> None:
        if close:
            self.last = True
            self.end()
            return
        self.busy = False
        if self._read:
            self._advance()
        if not self._reading and not self._ended:
            self._reading = True
            self._watcher.start(self._readable)

    def _readable(self) -> None:
        """Runs in the hub: read the bytes that have come. During an answer, the next request stays in the socket."""
        if self.busy:
            self._reading = False
            self._watcher.stop()
            return
        try:
            data = self._client.recv(READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            self.end()
            return
        try:
            if self._incomplete is not None:
                self._complete(self._incomplete, data)
            elif data:
                self._read += data
                self._advance()
            else:  # the client has closed; gunicorn judges an incomplete request
                self.end(self._read or None)
        except Exception:
            self._failed()

    def _advance(self) -> None:
        read = self._read
        body = read.find(b"\r\n\r\n", 0, MAX_CANONICAL_HEAD) + 4
        request = parse_canonical(read[:body]) if body > 3 else None
        if request is None or request.length > MAX_BODY_BYTES[request.path]:
            self.end(read)
            return
        end = body + request.length
        if len(read) < end:
            if request.length > SHORT_BODY_BYTES and not self._lane.admits(request):
                self.end(read)  # gunicorn's path refuses it by its head
                return
            self._incomplete = Incomplete(request, body, end, bytearray(read))
            self._timer = get_hub().loop.timer(BODY_SECONDS)
            self._timer.start(self._guarded, self._too_late)
            return
        self.busy, self._read = True, read[end:]
        self._lane.submit(self, request, read[body:end])

    def _complete(self, incomplete: Incomplete, data: bytes) -> None:
        request, body, end, read = incomplete
        read += data
        if not data:
            self.end(bytes(read))
        elif len(read) >= end:
            self._stop_timer()
            self._incomplete = None
            self.busy, self._read = True, bytes(read[end:])
            self._lane.submit(self, request, bytes(read[body:end]))

    def _too_late(self) -> None:
        """End the wait for a body. Bytes in the socket still count, because this worker may have been late."""
        before = -1
        while (waiting := self._incomplete) is not None and not self._ended:
            if len(waiting.read) == before:
                self.busy, self._incomplete = True, None
                self._lane.late(self, waiting.request)
                return
            before = len(waiting.read)
            self._readable()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.close()
            self._timer = None

    def _guarded(self, step: Callable[..., None], *arguments: Any) -> None:
        try:
            step(*arguments)
        except Exception:
            self._failed()

    def _failed(self) -> None:
        log.exception("closing a connection after an error")
        self.end()

    def _wake(self) -> None:
        if not self._greenlet.dead:
            self._greenlet.switch()
