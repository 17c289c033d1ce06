"""Two doors to one behaviour, spoken to in bytes; and their answers without what differs from moment to moment."""

from __future__ import annotations

import json
import socket
from typing import Any, NamedTuple

from tests.support.node import Node


class Doors(NamedTuple):
    """A node with the fast lane and one without, on the same Redis and database."""

    fast: Node
    stock: Node


def spoken(port: int, *pieces: bytes) -> bytes:
    """All that the server answers to these pieces, until it closes."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        received = bytearray()
        try:
            for piece in pieces:
                connection.sendall(piece)
            connection.shutdown(socket.SHUT_WR)
            while chunk := connection.recv(65536):
                received += chunk
        except ConnectionError:
            received += b"(reset)"
    return bytes(received)


def answers(raw: bytes) -> list[tuple[object, ...]]:
    """Each answer as (status, headers, body). Correlation ids that do not begin with `parity` were made up."""
    found: list[tuple[object, ...]] = []
    while raw.startswith(b"HTTP/1."):
        head, _, raw = raw.partition(b"\r\n\r\n")
        status, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        interim = status.split()[1] == "100"
        length = int(headers.get("content-length", 0 if interim else len(raw)))
        body, raw = raw[:length], raw[length:]
        headers.pop("date", None)
        if not headers.get("x-correlation-id", "").startswith("parity"):
            headers.pop("x-correlation-id", None)
        if b"reset_at" in body:  # printed with more digits or fewer
            headers.pop("content-length", None)
        is_json = headers.get("content-type", "").endswith("json")
        found.append((status.split()[1], headers, json.loads(body, object_hook=_lasting) if is_json else body))
    return [*found, raw] if raw else found


def _lasting(members: dict[str, Any]) -> dict[str, Any]:
    made_up = not str(members.get("correlation_id", "")).startswith("parity")
    return {
        name: members[name] for name in members if name != "reset_at" and not (made_up and name == "correlation_id")
    }
