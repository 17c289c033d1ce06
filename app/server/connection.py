"""One client's connection in the fast lane, driven by the event loop: bytes in, plain requests out, answers back.

A greenlet for each request would cost more than the check. Here the loop calls `_readable` when bytes have come; the
greenlet gunicorn started for the connection only waits for its end.
"""

from __future__ import annotations

import time
from typing import Any, Protocol

import gevent
from gevent import get_hub, getcurrent

from app.api.bodies import MAX_BYTES, SECONDS, SHORT
from app.server.plain import MAX_HEAD, Plain, plain

READ_BYTES = 16 * 1024
SEND_SECONDS = 10.0  # for all of an answer; who does not read loses the connection
READABLE = 1  # what an io watcher of the event loop waits for
# Bytes after the last answer that are read and forgotten, for two seconds at most: a close with unread bytes resets the
# connection, and the answer that says why may be lost on its way.
UNREAD_BYTES = 16 * 1024 * 1024
LIMITS = {path.encode(): limit for path, limit in MAX_BYTES.items()}


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


class Lane(Protocol):
    """What a connection brings its requests to. `take` leads to one `answer`, `late` to one that closes.

    `admits`: whether the caller is let in, asked before a long body is waited for.
    """

    def take(self, connection: Connection, request: Plain, body: bytes) -> None: ...

    def admits(self, request: Plain) -> bool: ...

    def late(self, connection: Connection, request: Plain) -> None: ...


class Connection:
    """Takes over a connected gevent socket. One request is out at a time; what follows it waits in the socket."""

    __slots__ = (
        "_client",
        "_ended",
        "_greenlet",
        "_handed",
        "_lane",
        "_read",
        "_reading",
        "_timer",
        "_watcher",
        "busy",
        "since",
    )

    def __init__(self, client: Any, lane: Lane) -> None:
        client.settimeout(0)
        self._client = client
        self._lane = lane
        self._read = b""
        self._watcher = get_hub().loop.io(client.fileno(), READABLE)
        self._reading = True  # whether that is on: asking it costs more
        self._timer: Any = None  # runs while a body is incomplete
        self._greenlet = getcurrent()
        self._handed: Handed | None = None
        self._ended = False
        self.busy = False  # a request is being answered
        self.since = time.monotonic()  # of the last answer

    def served(self) -> Handed | None:
        """Wait until the connection has ended (None), or brought what is not plain: who goes on gets it with that."""
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
        """End the connection if it has waited since before that moment, and nothing lies in the socket either."""
        if self._idle and self.since < before:
            self._readable()
            if self._idle:
                self.end()

    @property
    def _idle(self) -> bool:
        return not self.busy and not self._read

    def end(self, handed: Handed | None = None) -> None:
        """Let `served` return. Safe to repeat."""
        if not self._ended:
            self._ended, self._handed = True, handed
            self._watcher.stop()
            get_hub().loop.run_callback(self._wake)

    def answer(self, data: bytes, *, close: bool) -> None:
        """Send the answer to the request that was taken, then go on with the next one."""
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
        """The other side reads slowly, or not at all."""
        try:
            self._client.settimeout(SEND_SECONDS)
            self._client.sendall(rest)
            self._client.settimeout(0)
        except OSError:
            self.end()
        else:
            self._answered(close)

    def _answered(self, close: bool) -> None:
        if close:
            self.end()
            return
        self.busy = False
        if self._read:
            self._advance()
        if not self._reading and not self._ended:
            self._reading = True
            self._watcher.start(self._readable)

    def _readable(self) -> None:
        """In the hub: take what has come. While a request is out, the next one stays in the socket."""
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
        if data:
            self._read += data
            self._advance()
        else:  # nothing more will come; half a request is for gunicorn to judge
            self.end(Handed(self._client, self._read) if self._read else None)

    def _advance(self) -> None:
        read = self._read
        end = read.find(b"\r\n\r\n", 0, MAX_HEAD) + 4
        request = plain(read[:end]) if end > 3 else None
        if request is None or request.length > LIMITS[request.path]:
            self.end(Handed(self._client, read))
            return
        whole = end + request.length
        if len(read) < whole:
            self._wait_for_body(request)
            return
        self._stop_timer()
        self.busy, self._read = True, read[whole:]
        self._lane.take(self, request, read[end:whole])

    def _wait_for_body(self, request: Plain) -> None:
        if self._timer is None:
            if request.length > SHORT and not self._lane.admits(request):
                self.end(Handed(self._client, self._read))  # gunicorn's path refuses it by its head
                return
            self._timer = get_hub().loop.timer(SECONDS)
            self._timer.start(self._too_late, request)

    def _too_late(self, request: Plain) -> None:
        self.busy = True
        self._lane.late(self, request)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.close()
            self._timer = None

    def _wake(self) -> None:
        if not self._greenlet.dead:
            self._greenlet.switch()
