"""HTTP/1.1 over one socket, for short questions with a deadline.

This replaces http.client, which costs twice as much time and restarts its timeout with each read. There, a server that
sends a byte at a time, or repeats "100 Continue", holds the caller as long as it likes. Answers in chunks, or without a
Content-Length, count as failures: here only gateways send them.
"""

from __future__ import annotations

import re
import select
import socket
import time
from typing import TYPE_CHECKING, NamedTuple

from ratelimiter_client.decision import Headers
from ratelimiter_client.errors import ProtocolError

if TYPE_CHECKING:
    from ratelimiter_client.http.tls import Secured

MAX_HEAD = 16 * 1024
READ_BYTES = 16 * 1024
STATUS = re.compile(r"HTTP/1\.([01]) ([2-5][0-9][0-9])[ \r]")
LENGTH = re.compile(r"\r\ncontent-length:[ \t]*([0-9]{1,9})[ \t]*(?=\r\n)")  # these two in lower case
CLOSE = re.compile(r"\r\nconnection:[ \t]*close")
# Visible ASCII only: applications hand them on.
RATE_LIMIT = re.compile(r"\r\n((?i:ratelimit(?:-[a-z]+)*|x-ratelimit(?:-[a-z]+)*|retry-after)):[ \t]*([ -~]*)(?=\r\n)")


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
            self._read_head(self._head[: end + 2].decode("latin-1"))
            data, self._body = self._head[end + 4 :], []
        self._body.append(data)
        self._missing -= len(data)
        if self._missing > 0:
            return None
        body = b"".join(self._body)[: self._length]
        return Answer(self._status, self._headers, body, self._persists and self._missing == 0)

    def _read_head(self, head: str) -> None:
        status = STATUS.match(head)
        if status is None:
            raise ProtocolError("the answer is not HTTP")
        version, code = status.groups()
        lower = head.lower()
        lengths = LENGTH.findall(lower)
        if len(lengths) != 1 or "\r\ntransfer-encoding:" in lower:
            raise ProtocolError(f"the answer, of status {code}, has no Content-Length")
        self._length = self._missing = int(lengths[0])
        if self._length > self._most:
            raise ProtocolError(f"the answer is longer than {self._most} bytes")
        self._status = int(code)
        self._headers = tuple(RATE_LIMIT.findall(head))
        if "\r\nretry-after:" in lower:
            self._headers = tuple((_spelled(name), value) for name, value in self._headers)
        self._persists = version == "1" and not CLOSE.search(lower)


class Connection:
    """A connected socket, used by one call at a time. Close it after any error."""

    __slots__ = ("_socket",)

    def __init__(self, connected: socket.socket | Secured) -> None:
        self._socket = connected

    def exchange(self, request: bytes, deadline: float, most: int) -> Answer:
        """Send the request and read its answer, whose body is at most `most` bytes, until `deadline` (monotonic).

        Raises socket.timeout, other OSErrors where the connection failed, ProtocolError.
        """
        self._send(request, deadline)
        feed = AnswerReader(most).feed
        while (answer := feed(self._receive(deadline))) is None:
            pass
        return answer

    def _send(self, data: bytes, deadline: float) -> None:
        view = memoryview(data)
        while view:
            self._socket.settimeout(left(deadline))
            view = view[self._socket.send(view) :]

    def _receive(self, deadline: float) -> bytes:
        self._socket.settimeout(left(deadline))
        return self._some(self._socket.recv(READ_BYTES))

    @staticmethod
    def _some(data: bytes) -> bytes:
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


class PolledConnection(Connection):
    """Over a socket of the standard library. Each of its timeouts would cost a system call, and so would its wait for
    room to send, which there nearly always is.
    """

    __slots__ = ("_poll",)

    def __init__(self, connected: socket.socket) -> None:
        super().__init__(connected)
        connected.settimeout(0)
        self._poll = select.poll()
        self._poll.register(connected, select.POLLIN)

    def _send(self, data: bytes, deadline: float) -> None:
        try:
            sent = self._socket.send(data)  # type: ignore[arg-type]
        except BlockingIOError:
            sent = 0
        if sent < len(data):
            super()._send(data[sent:], deadline)
            self._socket.settimeout(0)

    def _receive(self, deadline: float) -> bytes:
        while True:
            if self._poll.poll(left(deadline) * 1000):
                try:
                    return self._some(self._socket.recv(READ_BYTES))
                except BlockingIOError:
                    pass

    def idle(self) -> bool:
        return not self._poll.poll(0)


def over(connected: socket.socket) -> Connection:
    """The connection over the socket. gevent and eventlet have their own sockets, which let others run as they wait."""
    if type(connected).__module__ == "socket" and hasattr(select, "poll"):
        return PolledConnection(connected)
    return Connection(connected)


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
        raise socket.timeout("timed out")
    return seconds
