"""HTTP/1.1 over one socket, for short questions with a deadline.

This replaces http.client, which costs twice as much time and restarts its timeout with each read. There, a server that
sends a byte at a time, or repeats "100 Continue", holds the caller as long as it likes. Answers in chunks, or without a
Content-Length, count as failures: here only gateways send them.
"""

from __future__ import annotations

import re
import socket
import time
from typing import TYPE_CHECKING, NamedTuple

from ratelimiter_client.decision import Headers
from ratelimiter_client.errors import ProtocolError

if TYPE_CHECKING:
    from ratelimiter_client.http.tls import Secured

MAX_HEAD = 16 * 1024
READ_BYTES = 16 * 1024
STATUS = re.compile(rb"HTTP/1\.([01]) ([2-5][0-9][0-9])[ \r]")
LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]{1,9})[ \t]*(?=\r\n)", re.IGNORECASE)
CHUNKED = re.compile(rb"\r\ntransfer-encoding:", re.IGNORECASE)
CLOSE = re.compile(rb"\r\nconnection:[ \t]*close", re.IGNORECASE)
# Visible ASCII only: applications hand them on.
RATE_LIMIT = re.compile(rb"\r\n((?i:ratelimit(?:-[a-z]+)*|x-ratelimit(?:-[a-z]+)*|retry-after)):[ \t]*([ -~]*)(?=\r\n)")


class Answer(NamedTuple):
    """`headers` are only those about limits. `reusable`: the connection may carry another request."""

    status: int
    headers: Headers
    body: bytes
    reusable: bool


class AnswerReader:
    """Reads one answer from pieces as they come; its body is at most `most` bytes. Uses no socket."""

    __slots__ = ("_body", "_head", "_headers", "_length", "_missing", "_most", "_persists", "_status")

    def __init__(self, most: int) -> None:
        self._most = most
        self._head = b""
        self._body: list[bytes] | None = None  # None until the head is complete

    def feed(self, data: bytes) -> Answer | None:
        """The answer once it is complete, None before. Raises ProtocolError."""
        if self._body is None:
            self._head += data
            end = self._head.find(b"\r\n\r\n")
            if end < 0:
                if len(self._head) > MAX_HEAD:
                    raise ProtocolError(f"the head of the answer is longer than {MAX_HEAD} bytes")
                return None
            self._read_head(self._head[: end + 2])
            data, self._body = self._head[end + 4 :], []
        self._body.append(data)
        self._missing -= len(data)
        if self._missing > 0:
            return None
        body = b"".join(self._body)[: self._length]
        return Answer(self._status, self._headers, body, self._persists and self._missing == 0)

    def _read_head(self, head: bytes) -> None:
        status = STATUS.match(head)
        if status is None:
            raise ProtocolError("the answer is not HTTP")
        lengths = LENGTH.findall(head)
        if len(lengths) != 1 or CHUNKED.search(head):
            raise ProtocolError(f"the answer, of status {int(status[2])}, has no Content-Length")
        self._length = self._missing = int(lengths[0])
        if self._length > self._most:
            raise ProtocolError(f"the answer is longer than {self._most} bytes")
        self._status = int(status[2])
        self._headers = tuple((_spelled(name.decode()), value.decode()) for name, value in RATE_LIMIT.findall(head))
        self._persists = status[1] == b"1" and not CLOSE.search(head)


class Connection:
    """A connected socket, used by one call at a time. Close it after any error."""

    __slots__ = ("_socket",)

    def __init__(self, connected: socket.socket | Secured) -> None:
        self._socket = connected

    def exchange(self, request: bytes, deadline: float, most: int) -> Answer:
        """Send the request and read its answer, whose body is at most `most` bytes, until `deadline` (monotonic).

        Raises socket.timeout, other OSErrors where the connection failed, ProtocolError.
        """
        view = memoryview(request)
        while view:
            self._socket.settimeout(left(deadline))
            view = view[self._socket.send(view) :]
        feed = AnswerReader(most).feed
        while (answer := feed(self._receive(deadline))) is None:
            pass
        return answer

    def _receive(self, deadline: float) -> bytes:
        self._socket.settimeout(left(deadline))
        data = self._socket.recv(READ_BYTES)
        if not data:
            raise closed()
        return data

    def idle(self) -> bool:
        """Whether the connection is open and silent since its last answer."""
        try:
            self._socket.settimeout(0)
            self._socket.recv(1)
        except BlockingIOError:
            return True
        except OSError:
            pass
        return False

    def close(self) -> None:
        self._socket.close()


def closed() -> ConnectionResetError:
    """The error of a connection that ended before its answer did."""
    return ConnectionResetError("the service closed the connection")


def _spelled(name: str) -> str:
    """Gateways with HTTP/2 send names in lower case; Retry-After is looked up by its usual spelling."""
    return "Retry-After" if name.lower() == "retry-after" else name


def left(deadline: float) -> float:
    """Seconds until the deadline. Raises socket.timeout after it."""
    seconds = deadline - time.monotonic()
    if seconds <= 0:
        raise socket.timeout("the time for the call is up")
    return seconds
