"""A server that greets like Redis and then says whatever the test wants, whatever it is asked."""

from __future__ import annotations

import contextlib
import itertools
import socket
from collections.abc import Iterator

from tests.support.threads import ThreadedServer

GREETINGS = (b"CLIENT", b"HELLO", b"AUTH", b"SELECT", b"SCRIPT")
ENDLESS = b"(endless)"
PIECE = b"x" * 65536


class Nonsense(ThreadedServer):
    """On 127.0.0.1, from entry to exit. `answer` may be changed meanwhile; what begins with ENDLESS never ends after
    it, what ends with CUT ends the connection."""

    CUT = b"(cut)"

    def __init__(self) -> None:
        self.answer = b"+OK\r\n"
        super().__init__()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._over = False

    def __exit__(self, *_: object) -> None:
        self._over = True
        super().__exit__()

    def _serve(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            while heard := connection.recv(1 << 20):
                if b"acl_check_cmd" in heard and b"\r\nGET\r\n" not in heard:  # a new connection's first question
                    connection.sendall(b"+OK\r\n$0\r\n\r\n")
                    continue
                if greeting := sum(heard.count(b"\r\n" + word + b"\r\n") for word in GREETINGS):
                    connection.sendall(b"+OK\r\n" * greeting)
                    continue
                for piece in self._pieces(self.answer):
                    connection.sendall(piece)
                if self.answer.endswith(self.CUT):
                    return

    def _pieces(self, answer: bytes) -> Iterator[bytes]:
        endless = answer.startswith(ENDLESS)
        yield answer.removeprefix(ENDLESS).removesuffix(self.CUT)
        for _ in itertools.repeat(None) if endless else ():
            if self._over or self.answer != answer:
                raise ConnectionError
            yield PIECE
