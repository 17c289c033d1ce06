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
from gevent import get_hub, getcurrent
from gunicorn.util import close_graceful

from app.server.head import MAX_HEAD, Head, end_of_head
from app.server.sending import Sender

READ_BYTES = 8 * 1024  # of a head at once; what is behind it waits for its turn
NOTHING_THERE = (BlockingIOError, ssl.SSLWantReadError)
# Bytes after the last answer that are read and forgotten, for two seconds at most: a close with unread bytes resets the
# connection, and the answer that says why may be lost on its way.
UNREAD_BYTES = 16 * 1024 * 1024


class BoundedSocket:
    """Reads a head first, then, between `expect_body` and `expect_head`, whatever else belongs to that request.

    How long that may take, others say: a head by `expire`, a body by a gevent.Timeout of its reader. What lies in the
    socket by then still counts: this worker may have been the late one. `read`: bytes that were read already.
    """

    def __init__(self, client: Any, *, hurried: Callable[[], bool], read: bytes = b"") -> None:
        client.settimeout(None)
        self._client = client
        self._greenlet = getcurrent()
        self._sender = Sender(client, hurried)
        self._waiting = False  # for bytes, in `recv`
        self._late: gevent.Timeout | None = None  # the time is over: nothing more is waited for
        self.expect_head(read)

    def expect_head(self, read: bytes) -> bool:
        """The next request begins, with what was read of it already. Whether any was."""
        self._begin(head=True)
        self._read = read
        self._head: Head | None = None  # where it comes in more than one piece
        self._since = time.monotonic()
        self._sender.begin()
        return bool(read)

    def expect_body(self) -> None:
        """The head was parsed."""
        self._begin(head=False)

    def expire(self, before: float) -> None:
        """End the connection if it has waited for a head since before that moment."""
        if self._in_head and self._waiting and self._since < before:
            get_hub().loop.run_callback(self._interrupt)

    def recv(self, size: int, *_: int) -> bytes:
        """What the parser should see next; empty where nothing more will come."""
        return self._of_head() if self._in_head else self._received(size)

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
        """Not for others to say."""

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
            elif not data:  # gunicorn would log an end of the connection together with what came before it
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
        """What has come, else what comes in time. Raises OSError, or the Timeout once nothing lies in the socket."""
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
