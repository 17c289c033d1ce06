"""Servers that hear requests and do not answer them as they should."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Callable

from tests.support.threads import ThreadedServer

RESET = struct.pack("ii", 1, 0)  # SO_LINGER: a close resets the connection
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nServer: mine\r\n\r\nok"
NOT_READY = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"
PROBE = b"GET /readyz "


class Unfaithful(ThreadedServer):
    """On a free port, from entry to exit: ready by its probes, and `heard` is every other request as it came.

    What it does with those: `answers`, `closes` without an answer, `resets` the connection before it has read a byte,
    or `answers once` on each connection and closes when it hears the next request. `drains`: answers, and is not ready.
    """

    def __init__(self, conduct: str) -> None:
        super().__init__()
        self.conduct = conduct
        self.heard: list[bytes] = []

    def _serve(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            if self.conduct == "resets" and not connection.recv(len(PROBE), socket.MSG_PEEK).startswith(PROBE):
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                self.heard.append(b"")
                return
            answered = 0
            while request := _request(connection.recv):
                probed = request.startswith(PROBE)
                if not probed:
                    self.heard.append(request)
                    if self.conduct == "closes" or (self.conduct == "answers once" and answered):
                        return
                    answered += 1
                connection.sendall(NOT_READY if probed and self.conduct == "drains" else ANSWER)


def _request(receive: Callable[[int], bytes]) -> bytes:
    """A head and a body of the length it names; nothing where the connection ends first."""
    data = b""
    while True:
        head, end, body = data.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0] or 0)
        if end and len(body) >= length:
            return data
        if not (more := receive(65536)):
            return b""
        data += more
