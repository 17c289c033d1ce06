"""Clients that send their requests a byte at a time, for ever."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
import time
from typing import Self

DRIP_SECONDS = 0.5


class SlowClients:
    """From entry to exit `number` connections begin with `beginning` and go on byte by byte; who is cut off comes back.

    `lasted`: the seconds after which the server ended each connection. `answers`: what it said then.
    """

    def __init__(self, port: int, number: int, beginning: bytes, rest: bytes) -> None:
        self.lasted: list[float] = []
        self.answers: list[bytes] = []
        self._port, self._number, self._beginning, self._rest = port, number, beginning, rest
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(30)

    def _run(self) -> None:
        since: dict[socket.socket, float] = {}
        sent = 0
        while not self._stop.is_set():
            while len(since) < self._number:
                since[self._open()] = time.monotonic()
            byte, sent = self._rest[sent % len(self._rest) :][:1], sent + 1
            for connection in since:
                with contextlib.suppress(OSError):
                    connection.send(byte)
            self._stop.wait(DRIP_SECONDS)
            for connection in select.select(since, [], [], 0)[0]:
                self._ended(connection, since)
        for connection in since:
            connection.close()

    def _open(self) -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", self._port), timeout=30)
        connection.sendall(self._beginning)
        return connection

    def _ended(self, connection: socket.socket, since: dict[socket.socket, float]) -> None:
        try:
            answer = connection.recv(65536)
        except OSError:
            answer = b""
        if answer:
            self.answers.append(answer)
            return
        self.lasted.append(time.monotonic() - since.pop(connection))
        connection.close()
