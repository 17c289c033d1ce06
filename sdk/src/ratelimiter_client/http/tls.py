"""TLS over a socket with one deadline for each step, in however many pieces its data comes.

This replaces ssl.SSLSocket. gevent's restarts its timeout with every piece, so a server that sends a byte at a time
holds the caller as long as it likes.
"""

from __future__ import annotations

import socket
import ssl
import time
from typing import Any, Callable

from ratelimiter_client.http.transport import left

PIECE_BYTES = 16 * 1024


class Secured:
    """The methods of a socket that Connection needs. Raises a socket's errors, and ssl.SSLError, which is an
    OSError.
    """

    def __init__(self, plain: socket.socket, context: ssl.SSLContext, host: str) -> None:
        self._plain = plain
        self._seconds = 0.0
        self._received, self._to_send = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._received, self._to_send, server_hostname=host)

    def settimeout(self, seconds: float) -> None:
        """The time for each of the next steps; with 0 they take only data that has come."""
        self._seconds = seconds

    def handshake(self) -> None:
        self._within(self._tls.do_handshake)

    def send(self, data: memoryview) -> int:
        sent: int = self._within(self._tls.write, data)
        return sent

    def recv(self, size: int) -> bytes:
        data: bytes = self._within(self._tls.read, size)
        return data

    def close(self) -> None:
        self._plain.close()

    def _within(self, step: Callable[..., Any], *arguments: Any) -> Any:
        deadline = time.monotonic() + self._seconds
        while True:
            try:
                return step(*arguments)
            except ssl.SSLWantReadError:
                pass
            finally:
                self._send(deadline)  # after a failed step this sends the alert
            self._receive(deadline)

    def _send(self, deadline: float) -> None:
        data = memoryview(self._to_send.read())
        while data:
            self._plain.settimeout(left(deadline))
            data = data[self._plain.send(data) :]

    def _receive(self, deadline: float) -> None:
        self._plain.settimeout(left(deadline) if self._seconds else 0)
        data = self._plain.recv(PIECE_BYTES)
        if not data:
            raise ConnectionResetError("the service closed the connection")
        self._received.write(data)
