"""The socket of a connection as gunicorn's parser and responses use it.

What it reads ahead, a head, and the time for a head or an answer are bounded.
"""

from __future__ import annotations

import errno
import ssl
import time
from collections.abc import Callable
from typing import Any

import gevent
from gunicorn.util import close_graceful

from app.server.head import MAX_HEAD, Head, end_of_head
from app.server.sending import HURRY_SECONDS, Sender

READ_BYTES = 8 * 1024  # of a head at once; what is behind it waits for its turn
NOTHING_YET = (BlockingIOError, TimeoutError, ssl.SSLWantReadError)
# Bytes after the last answer that are read and forgotten, for two seconds at most: a close with unread bytes resets the
# connection, and the answer that says why may be lost on its way.
UNREAD_BYTES = 16 * 1024 * 1024


class BoundedSocket:
    """Reads a head first, then, between `expect_body` and `expect_head`, whatever else belongs to that request.

    `seconds`: how long the connection may be idle, and how long a head may take. While the worker is `hurried`, a
    connection that brings nothing for a second ends. `read`: bytes that were read already.
    """

    def __init__(self, client: Any, *, seconds: float, hurried: Callable[[], bool], read: bytes = b"") -> None:
        self._client = client
        self._seconds = seconds
        self._hurried = hurried
        self._sender = Sender(client, hurried)
        self.expect_head(read)

    def expect_head(self, read: bytes) -> bool:
        """The next request begins, with what was read of it already. Whether any was."""
        self._read = read
        self._head: Head | None = None  # where it comes in more than one piece
        self._until: float | None = time.monotonic() + self._seconds
        self._late: BaseException | None = None  # the time is over: nothing more is waited for
        self._sender.begin()
        return bool(read)

    def expect_body(self) -> None:
        """The head was parsed. How long the body may take is for its reader to say, by a gevent.Timeout."""
        self._until = self._late = None

    def recv(self, size: int, *_: int) -> bytes:
        """What the parser should see next; empty where nothing more will come."""
        return self._received(size) if self._until is None else self._of_head()

    def sendall(self, data: bytes, *_: int) -> None:
        """Raises BrokenPipeError, of which gunicorn makes no line in the log, whatever is wrong; all is over then."""
        try:
            self._sender.send(data)
        except OSError as error:
            self._client.close()
            raise BrokenPipeError(errno.EPIPE, "the client does not take its answer") from error

    send = sendall  # 100 Continue

    def close_gracefully(self) -> None:
        """Close after the last answer: what the client sent beyond it does not take the answer away."""
        close_graceful(self._client, max_drain=UNREAD_BYTES)

    def setblocking(self, _: bool) -> None:
        """Not for others to say: each wait here has an end of its own."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def _of_head(self) -> bytes:
        while True:
            data, self._read = self._read or self._received_of_head(), b""
            if self._head is None:
                if not data or 0 < end_of_head(data) <= MAX_HEAD:
                    return data
                self._head = Head()
            elif not data:  # gunicorn would log an end of the connection together with what came before it
                raise ConnectionResetError(errno.ECONNRESET, "the head did not come in time, or ended early")
            self._head.add(data)
            if piece := self._head.due():
                return piece

    def _received_of_head(self) -> bytes:
        try:
            return self._received(READ_BYTES)
        except OSError:
            return b""

    def _received(self, size: int) -> bytes:
        """What has come, else what comes in time; OSError where nothing does.

        Once the time is over, what lies in the socket still counts: this worker may have been the late one.
        """
        while True:
            seconds = self._patience()
            self._client.settimeout(seconds)
            try:
                return bytes(self._client.recv(size))
            except NOTHING_YET as late:
                if seconds == 0:
                    raise self._late or late from None
                if self._until is None or self._until <= time.monotonic() or self._hurried():
                    self._late = late
            except OSError as error:
                raise ConnectionResetError(errno.ECONNRESET, "the connection is lost") from error
            except gevent.Timeout as late:
                self._late = late

    def _patience(self) -> float | None:
        """Seconds to wait now; None: without end."""
        if self._late is not None:
            return 0.0
        return None if self._until is None else max(min(self._until - time.monotonic(), HURRY_SECONDS), 0.0)
