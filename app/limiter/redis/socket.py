"""A connected Redis socket in the event loop: bytes out, whole replies in."""

from __future__ import annotations

from collections.abc import Callable
from ssl import SSLSocket, SSLWantReadError, SSLWantWriteError
from typing import Any, cast

import hiredis
from gevent import get_hub
from redis.connection import AbstractConnection
from redis.exceptions import ConnectionError

READ_BYTES = 65536
READS = 16  # per event-loop turn: 1 MiB, thousands of answers
MAX_REPLY_BYTES = 8 * 1024 * 1024  # of an incomplete reply; no reply to our commands reaches a tenth of it
INCOMPLETE = object()  # marks a reply whose rest is still to come
READABLE, WRITABLE = 1, 2  # event masks of the event loop's io watchers


class RedisSocket:
    """Takes over a connected redis-py connection, which has done TLS, authentication and choice of database."""

    def __init__(self, connection: AbstractConnection) -> None:
        self._connection: AbstractConnection | None = connection
        self._socket = cast(Any, connection)._sock
        self._socket.settimeout(0)
        self._encrypted = isinstance(self._socket, SSLSocket)
        self._reader = hiredis.Reader(notEnoughData=INCOMPLETE)
        self._incomplete_bytes = 0  # bytes since the last whole reply
        self._unsent = b""
        loop = get_hub().loop
        self._readable = loop.io(self._socket.fileno(), READABLE)
        self._writable = loop.io(self._socket.fileno(), WRITABLE)

    def start(self, on_replies: Callable[[list[Any]], None], broken: Callable[[ConnectionError], None]) -> None:
        """Call `on_replies` with replies, or with none if a full socket accepted more; `broken` at the end.

        Both are called in the hub, after the socket's input was read.
        """
        self._on_replies, self._broken = on_replies, broken
        self._readable.start(self.read)

    def send(self, data: bytes) -> None:
        """Send what the socket accepts now, and the rest once it accepts more."""
        was_full = bool(self._unsent)
        self._unsent = self._unsent + data if was_full else data
        if not self._unsent:
            return
        try:
            sent = self._socket.send(self._unsent)
        except (BlockingIOError, SSLWantWriteError):
            sent = 0
        except OSError as error:
            self._broken(ConnectionError(str(error)))
            return
        self._unsent = self._unsent[sent:]
        if self._unsent:
            self._writable.start(self.send, b"")
        else:
            self._writable.stop()
        if was_full and sent:  # a full socket accepted more, a sign of life
            self._on_replies([])

    def send_and_read(self) -> bool:
        """Read and send what is possible now. False if more input is left."""
        self.send(b"")
        return self._connection is None or self.read()

    def read(self) -> bool:
        """Read the socket's input, at most READS pieces. False if more is left."""
        replies: list[Any] = []
        drained, broken = False, None
        try:
            for _ in range(READS):
                data = self._socket.recv(READ_BYTES)
                if not data:
                    raise ConnectionError("Redis closed the connection")
                self._reader.feed(data)
                found = list(iter(self._reader.gets, INCOMPLETE))
                replies += found
                self._incomplete_bytes = 0 if found else self._incomplete_bytes + len(data)
                if self._incomplete_bytes > MAX_REPLY_BYTES:
                    raise ConnectionError(f"Redis sent {self._incomplete_bytes} bytes without a complete answer")
                # TLS may hold decrypted bytes that the system does not report.
                if len(data) < READ_BYTES and not self._encrypted:
                    drained = True
                    break
        except (BlockingIOError, SSLWantReadError):
            drained = True
        except ConnectionError as error:
            broken = error
        except (OSError, hiredis.HiredisError) as error:
            broken = ConnectionError(str(error))
        if replies:
            self._on_replies(replies)
        if broken and self._connection is not None:
            self._broken(broken)
        elif not drained and self._encrypted:  # the event loop may not report them
            get_hub().loop.run_callback(self._read_on)
        return drained

    def _read_on(self) -> None:
        if self._connection is not None:
            self.read()

    def close(self) -> None:
        """Close the connection. Safe to repeat."""
        if self._connection is None:
            return
        for watcher in (self._readable, self._writable):
            watcher.stop()
            watcher.close()
        self._connection.disconnect()
        self._connection = None
