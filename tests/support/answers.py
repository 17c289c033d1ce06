"""Answers on a kept-alive connection, one by one, as a pipelining client reads them."""

from __future__ import annotations

import re
import socket
from typing import Any, NamedTuple

LENGTH = re.compile(rb"\r\nContent-Length: (\d+)")
CORRELATION_ID = re.compile(rb"\r\nX-Correlation-ID: (\S+)")


class Received(NamedTuple):
    status: int
    correlation_id: bytes
    closes: bool  # the last one on its connection, it says
    body: bytes


class Answers:
    """Reads from a connected socket, gevent's or another. Its timeout is how long an answer may take."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._read = b""

    def next(self) -> Received:
        """The next answer, whole. Raises OSError where it does not come."""
        while (end := self._read.find(b"\r\n\r\n") + 4) < 4:
            self._fill()
        head = self._read[:end]
        whole = end + int(_value(LENGTH, head))
        while len(self._read) < whole:
            self._fill()
        body, self._read = self._read[end:whole], self._read[whole:]
        return Received(int(head[9:12]), _value(CORRELATION_ID, head), b"\r\nConnection: close\r\n" in head, body)

    def rest(self) -> bytes:
        """Say that nothing more will be asked; what still comes until the server closes."""
        self._connection.shutdown(socket.SHUT_WR)
        return self.until_closed()

    def until_closed(self) -> bytes:
        """What still comes until the server closes. Raises OSError where it does not, or resets the connection."""
        while chunk := self._connection.recv(65536):
            self._read += chunk
        return self._read

    def _fill(self) -> None:
        chunk = self._connection.recv(65536)
        if not chunk:
            raise ConnectionError("the server closed the connection")
        self._read += chunk


def _value(header: re.Pattern[bytes], head: bytes) -> bytes:
    found = header.search(head)
    assert found, head
    return found[1]
