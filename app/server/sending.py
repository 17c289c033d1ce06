"""Bounds the time of sending: a client that does not read its answer gets a reset, and holds nothing for long."""

from __future__ import annotations

import socket
import ssl
import struct
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from gevent.socket import wait_write

SEND_SECONDS = 10.0  # longest total wait of an answer for its client
# Once an answer has had to wait, it gets one more second for so many bytes taken. A client that reads faster than this
# is not cut off, however long the answer is.
BYTES_PER_SECOND = 64 * 1024
HURRY_SECONDS = 1.0  # longest wait for a client while the worker needs the connection for others
NO_ROOM = (BlockingIOError, ssl.SSLWantWriteError)
RESET = struct.pack("ii", 1, 0)  # SO_LINGER: a close drops unsent data and resets the connection


class Sender:
    """Sends the answers of one connection over its gevent socket."""

    __slots__ = ("_client", "_hurried", "_left", "_waited")

    def __init__(self, client: Any, hurried: Callable[[], bool]) -> None:
        self._client = client
        self._hurried = hurried
        self.begin()

    def begin(self) -> None:
        """Give the next answer all of its time."""
        self._left = SEND_SECONDS
        self._waited = False

    def send(self, data: bytes) -> None:
        """Send all of `data`, a part of the answer. Raises OSError; TimeoutError where it is not taken in time."""
        if not data:
            return
        rest = memoryview(data)[self._take(data) :]
        while rest:
            self._wait()
            taken = self._take(rest)  # before the deadline is judged: this worker may have been the late one
            if not taken and (self._left <= 0 or self._hurried()):
                self._client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                raise TimeoutError("the client did not take its answer in time")
            rest = rest[taken:]

    def _take(self, data: bytes | memoryview) -> int:
        """The number of bytes that the kernel takes at once."""
        try:
            taken: int = self._client.send(data, 0, 0.0)  # no flags, and no waiting
        except NO_ROOM:
            return 0
        if self._waited:
            self._left += taken / BYTES_PER_SECOND
        return taken

    def _wait(self) -> None:
        began = time.monotonic()
        with suppress(TimeoutError):
            wait_write(self._client.fileno(), max(min(self._left, HURRY_SECONDS), 0))
        self._left -= time.monotonic() - began
        self._waited = True
