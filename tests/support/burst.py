"""Many checks at once: every connection has its request sent before the first answer is read."""

from __future__ import annotations

import json
import select
import socket
import time
from collections import deque
from collections.abc import Sequence
from typing import Any

GET = b"GET %b HTTP/1.1\r\nHost: x\r\n\r\n"
HEAD = b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"


class Burst:
    """`width` kept-alive connections to a node, spread over its workers by the kernel."""

    def __init__(self, port: int, width: int) -> None:
        self._sockets = [socket.create_connection(("127.0.0.1", port), timeout=30) for _ in range(width)]
        self._answers = [connection.makefile("rb") for connection in self._sockets]

    def __enter__(self) -> Burst:
        return self

    def __exit__(self, *_: object) -> None:
        for open_file in (*self._answers, *self._sockets):
            open_file.close()

    def check(self, **fields: Any) -> list[dict[str, Any]]:
        """Every connection sends the same check; the decisions."""
        body = json.dumps(fields).encode()
        answers = self.post([("/v1/check", body)] * len(self._sockets))
        return [json.loads(answer) for answer in answers]

    def staggered(self, number: int, per_second: int, **fields: Any) -> list[float]:
        """So many of the same check, at a constant rate, each on a connection that waits for nothing; the seconds that
        each answer took. Who waits long keeps nobody else from asking.
        """
        body = json.dumps(fields).encode()
        request, idle = HEAD % (b"/v1/check", len(body)) + body, deque(self._sockets)
        asked: dict[socket.socket, float] = {}
        took: list[float] = []
        began = time.monotonic()
        while len(took) < number:
            sent = len(took) + len(asked)
            if sent < number and idle and (left := began + sent / per_second - time.monotonic()) <= 0:
                asked[idle[0]] = time.monotonic()
                idle.popleft().sendall(request)
                continue
            for connection in select.select(asked, [], [], max(left, 0) if sent < number and idle else 30)[0]:
                assert connection.recv(65536).startswith(b"HTTP/1.1 200")
                took.append(time.monotonic() - asked.pop(connection))
                idle.append(connection)
        return took

    def post(self, requests: Sequence[tuple[str, bytes]]) -> list[bytes]:
        """Each connection posts its own (path, JSON); the bodies of the answers, all of them 200."""
        self.send(requests)
        return self.receive()

    def send(self, requests: Sequence[tuple[str, bytes]]) -> None:
        """As `post`, without waiting for the answers."""
        for connection, (path, body) in zip(self._sockets, requests, strict=True):
            connection.sendall(HEAD % (path.encode(), len(body)) + body)

    def receive(self) -> list[bytes]:
        """The bodies of the answers to what was sent, all of them 200."""
        return [_body(answer) for answer in self._answers]

    def get(self, path: str) -> list[bytes]:
        """Every connection asks for the same; the bodies of the answers, all of them 200."""
        for connection in self._sockets:
            connection.sendall(GET % path.encode())
        return [_body(answer) for answer in self._answers]


def _body(answer: Any) -> bytes:
    status = answer.readline()
    length = 0
    while (line := answer.readline()) not in (b"\r\n", b""):
        name, _, value = line.partition(b":")
        length = int(value) if name.lower() == b"content-length" else length
    body: bytes = answer.read(length)
    assert status.startswith(b"HTTP/1.1 200"), (status, body)
    return body
