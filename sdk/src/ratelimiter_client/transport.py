"""HTTP/1.1 over one socket, for short questions with a deadline.

Not http.client: there the clock starts anew with each read, so that a server which sends a byte at a time, or a
"100 Continue" again and again, holds the caller for as long as it likes; and a check costs twice the time in it. What
this cannot read is a failure: answers in chunks, or without a Content-Length, which only gateways send here.
"""

from __future__ import annotations

import re
import socket
import time
from typing import TYPE_CHECKING, NamedTuple

from ratelimiter_client.decision import Headers
from ratelimiter_client.errors import ProtocolError

if TYPE_CHECKING:
    from ratelimiter_client.tls import Secured

MAX_HEAD = 16 * 1024
READ_BYTES = 16 * 1024
STATUS = re.compile(rb"HTTP/1\.([01]) ([2-5][0-9][0-9])[ \r]")
LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]{1,9})[ \t]*(?=\r\n)", re.IGNORECASE)
CHUNKED = re.compile(rb"\r\ntransfer-encoding:", re.IGNORECASE)
CLOSE = re.compile(rb"\r\nconnection:[ \t]*close", re.IGNORECASE)
# Visible ASCII only: applications hand them on.
RATE_LIMIT = re.compile(rb"\r\n((?:x-)?ratelimit(?:-[a-z]+)*|retry-after):[ \t]*([\x20-\x7e]*)(?=\r\n)", re.IGNORECASE)


class Answer(NamedTuple):
    """`headers` are those about limits alone. `reusable`: the connection may carry another request."""

    status: int
    headers: Headers
    body: bytes
    reusable: bool


class Connection:
    """A connected socket. Whoever uses it has it alone; after any error it is to be closed."""

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
        data = self._receive(deadline)
        while (end := data.find(b"\r\n\r\n")) < 0:
            if len(data) > MAX_HEAD:
                raise ProtocolError(f"the head of the answer is longer than {MAX_HEAD} bytes")
            data += self._receive(deadline)
        return self._body(data[: end + 2], data[end + 4 :], deadline, most)

    def _body(self, head: bytes, body: bytes, deadline: float, most: int) -> Answer:
        status = STATUS.match(head)
        if status is None:
            raise ProtocolError("the answer is not HTTP")
        lengths = LENGTH.findall(head)
        if len(lengths) != 1 or CHUNKED.search(head):
            raise ProtocolError(f"the answer, of status {int(status[2])}, has no Content-Length")
        length = int(lengths[0])
        if length > most:
            raise ProtocolError(f"the answer is longer than {most} bytes")
        parts = [body]
        missing = length - len(body)
        while missing > 0:
            parts.append(self._receive(deadline))
            missing -= len(parts[-1])
        headers = tuple((_spelled(name.decode()), value.decode()) for name, value in RATE_LIMIT.findall(head))
        reusable = missing == 0 and status[1] == b"1" and not CLOSE.search(head)
        return Answer(int(status[2]), headers, b"".join(parts)[:length], reusable)

    def _receive(self, deadline: float) -> bytes:
        self._socket.settimeout(left(deadline))
        data = self._socket.recv(READ_BYTES)
        if not data:
            raise ConnectionResetError("the service closed the connection")
        return data

    def idle(self) -> bool:
        """Whether nothing has come on it since its last answer: bytes, or the end that the other side made."""
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


def _spelled(name: str) -> str:
    """Gateways that speak HTTP/2 have names in small letters; this one is looked up."""
    return "Retry-After" if name.lower() == "retry-after" else name


def left(deadline: float) -> float:
    """Seconds. Raises socket.timeout where there are none."""
    seconds = deadline - time.monotonic()
    if seconds <= 0:
        raise socket.timeout("the time for the call is up")
    return seconds
