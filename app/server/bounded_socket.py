"""The socket of a connection as gunicorn's parser and responses use it.

It bounds read-ahead, heads, and the time for a head or an answer.
"""

from __future__ import annotations

import errno
import ssl
import time
from collections.abc import Callable
from typing import Any

import gevent
from gevent import get_hub, getcurrent
from gunicorn.util import close_graceful

from app.server.head import MAX_HEAD, Head, end_of_head
from app.server.sending import Sender

READ_BYTES = 8 * 1024  # of a head at once; further bytes wait in the socket
NOTHING_THERE = (BlockingIOError, ssl.SSLWantReadError)
# Bytes after the last answer that are read and dropped, for two seconds at most. A close with unread bytes resets the
# connection, and the answer that explains the close may be lost.
UNREAD_BYTES = 16 * 1024 * 1024


class BoundedSocket:
    """Reads a head first. Between `expect_body` and `expect_head` it reads the rest of that request.

    The deadlines come from outside: for a head from `expire`, for a body from a gevent.Timeout of its reader. Bytes
    that lie in the socket at the deadline still count, because this worker may have been the late one. `read`: bytes
    that were read already.
    """

    def __init__(self, client: Any, *, hurried: Callable[[], bool], read: bytes = b"") -> None:
        client.settimeout(None)
        self._client = client
        self._greenlet = getcurrent()
        self._sender = Sender(client, hurried)
        self._waiting = False  # for bytes, in `recv`
        self._late: gevent.Timeout | None = None  # the deadline has passed: `recv` waits no more
        self.expect_head(read)

    def expect_head(self, read: bytes) -> bool:
        """Begin the next request, with the bytes already read of it. Returns whether there are any."""
        self._begin(head=True)
        self._read = read
        self._head: Head | None = None  # only for a head in more than one piece
        self._since = time.monotonic()
        self._sender.begin()
        return bool(read)

    def expect_body(self) -> None:
        """Note that the head has been parsed."""
        self._begin(head=False)

    def expire(self, before: float) -> None:
        """End the connection if it has waited for a head since before `before` (monotonic seconds)."""
        if self._in_head and self._waiting and self._since < before:
            get_hub().loop.run_callback(self._interrupt)

    def recv(self, size: int, *_: int) -> bytes:
        """The parser's next bytes; empty at the end."""
        return self._of_head() if self._in_head else self._received(size)

    def sendall(self, data: bytes, *_: int) -> None:
        """Send all, or close and raise BrokenPipeError whatever the failure: gunicorn does not log it."""
        try:
            self._sender.send(data)
        except OSError as error:
            self._client.close()
            raise BrokenPipeError(errno.EPIPE, "the client does not take its answer") from error

    send = sendall  # for 100 Continue

    def close_gracefully(self) -> None:
        """Close after the last answer. Bytes that the client sent after its request do not destroy the answer."""
        close_graceful(self._client, max_drain=UNREAD_BYTES)

    def setblocking(self, _: bool) -> None:
        """Ignored: this class alone sets the mode of the socket."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def _begin(self, *, head: bool) -> None:
        self._in_head = head
        if self._late is not None:
            self._late = None
            self._client.settimeout(None)

    def _of_head(self) -> bytes:
        while True:
            data, self._read = self._read or self._received_of_head(), b""
            if self._head is None:
                if not data or 0 < end_of_head(data) <= MAX_HEAD:
                    return data
                self._head = Head()
            elif not data:  # at an empty read gunicorn would log the bytes received before
                raise ConnectionResetError(errno.ECONNRESET, "the head did not come in time, or ended early")
            self._head.add(data)
            if piece := self._head.due():
                return piece

    def _received_of_head(self) -> bytes:
        try:
            return self._received(READ_BYTES)
        except (OSError, gevent.Timeout):
            return b""

    def _received(self, size: int) -> bytes:
        """The next bytes. Raises OSError, and gevent.Timeout once the deadline has passed and the socket is empty."""
        while True:
            self._waiting = True
            try:
                data: bytes = self._client.recv(size)
                return data
            except gevent.Timeout as late:
                self._late = late
                self._client.settimeout(0)
            except NOTHING_THERE:
                raise self._late or TimeoutError from None
            except OSError as error:
                raise ConnectionResetError(errno.ECONNRESET, "the connection is lost") from error
            finally:
                self._waiting = False

    def _interrupt(self) -> None:
        if self._in_head and self._waiting:
            self._greenlet.throw(gevent.Timeout())
