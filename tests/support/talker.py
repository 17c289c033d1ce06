"""A server that greets like Redis and then answers every check as the test wants."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator


class Talker:
    """On 127.0.0.1. Gives every check the same answer; b"" hangs up instead."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"redis://127.0.0.1:{self._socket.getsockname()[1]}/0"
        self.heard = b""
        self._accepted: list[socket.socket] = []

    @property
    def connections(self) -> int:
        """That were opened so far."""
        return len(self._accepted)

    def __enter__(self) -> Talker:
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        for open_socket in (self._socket, *self._accepted):
            with contextlib.suppress(OSError):
                open_socket.shutdown(socket.SHUT_RDWR)
        self._thread.join(5)
        self._socket.close()

    def _serve(self) -> None:
        for connection in self._connections():
            with connection, contextlib.suppress(OSError):  # the other side hangs up when it likes
                while heard := connection.recv(65536):
                    if b"acl_check_cmd" in heard:  # the new connection's question, whether its user may do what it will
                        connection.sendall(b"+OK\r\n$0\r\n\r\n")
                        continue
                    self.heard += heard
                    if b"EVALSHA" in heard and not self._answer:
                        break
                    commands = heard.count(b"\r\n$6\r\nCLIENT\r\n") or 1
                    connection.sendall(self._answer if b"EVALSHA" in heard else b"+OK\r\n" * commands)

    def _connections(self) -> Iterator[socket.socket]:
        while True:
            try:
                self._accepted.append(self._socket.accept()[0])
            except OSError:
                return
            yield self._accepted[-1]
