"""What an attack costs a node: its workers' processor time, and how long others wait meanwhile."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.support.neighbour import Neighbour, Waits
from tests.support.node import ADMIN_KEY, Node
from tests.support.processes import cpu_seconds

CALM_SECONDS = 0.1  # before and after, so that others were there while it happened
PEEK = {"client_id": "neighbour", "cost": 0}


@dataclass
class Burden:
    """Of all workers together; `others` is what a caller on 8 other connections met. Set on exit."""

    cpu_seconds: float = 0.0
    others: Waits = field(default_factory=Waits)

    @property
    def longest_ms(self) -> float:
        return self.others.ms(100)


@contextlib.contextmanager
def burden(node: Node) -> Iterator[Burden]:
    """The seconds are a processor's, so that a busy machine does not change them. A worker that died counts nothing."""
    found, before = Burden(), {pid: cpu_seconds(pid) for pid in node.workers}
    with Neighbour(node.port, PEEK, key=ADMIN_KEY, width=8) as neighbour:
        neighbour.turn(CALM_SECONDS)
        yield found
        found.others = neighbour.turn(CALM_SECONDS)
    found.cpu_seconds = round(sum(cpu_seconds(pid) - before.get(pid, 0) for pid in node.workers), 2)


def answered(port: int, sent: bytes, *, seconds: float = 60) -> bytes:
    """What the server says to these bytes until it closes, which it may while they are still being sent."""
    received = bytearray()
    with socket.create_connection(("127.0.0.1", port), timeout=seconds) as connection:
        sender = threading.Thread(target=_send, args=(connection, sent))
        sender.start()
        with contextlib.suppress(ConnectionError):
            while chunk := connection.recv(1 << 16):
                received += chunk
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)
        sender.join()
    return bytes(received)


def _send(connection: socket.socket, sent: bytes) -> None:
    with contextlib.suppress(OSError):
        connection.sendall(sent)
