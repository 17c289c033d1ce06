"""A bug in whatever a connection calls ends that connection, says so in the log, and nothing else."""

from __future__ import annotations

import logging

import gevent
import pytest
from gevent.socket import socketpair

from app.server import connection as connections
from app.server.canonical_request import CanonicalRequest
from app.server.connection import Connection
from tests.api.raw_http import post

CHECK = post("/v1/check", b"{}")


class Broken:
    """A lane with a bug at one place."""

    def __init__(self, place: str) -> None:
        self._place = place
        self.taken = 0

    def submit(self, connection: Connection, request: CanonicalRequest, body: bytes) -> None:
        self.taken += 1
        self._fail_at("the first take" if self.taken == 1 else "the next take")
        answer = b"x" * 10_000_000 if self._place == "the take after a slow answer" else b"x"
        if self.taken == 2:
            self._fail_at("the take after a slow answer")
        gevent.spawn_raw(connection.answer, answer, close=False)

    def late(self, connection: Connection, request: CanonicalRequest) -> None:
        self._fail_at("a late body")

    def hurried(self) -> bool:
        return False

    def _fail_at(self, place: str) -> None:
        if place == self._place:
            raise RuntimeError(f"a bug at {place}")


SENT: dict[str, tuple[bytes, ...]] = {
    "the first take": (CHECK,),
    "the next take": (CHECK, CHECK),
    "the take after a slow answer": (CHECK + CHECK,),
    "the take of a body that came in parts": (CHECK[:-1], CHECK[-1:]),
    "a late body": (CHECK[:-1],),
}


@pytest.mark.parametrize(("place", "sent"), SENT.items(), ids=SENT)
def test_a_connection_whose_lane_fails_ends(
    place: str, sent: tuple[bytes, ...], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(connections, "BODY_SECONDS", 0.05)
    lane = Broken("the first take" if place == "the take of a body that came in parts" else place)
    served, client = socketpair()
    with served, client, caplog.at_level(logging.ERROR, connections.__name__), gevent.Timeout(10):
        serving = gevent.spawn(lambda: Connection(served, lane).served())
        for part in sent:
            client.sendall(part)
            gevent.sleep(0.01)
        reading = gevent.spawn(lambda: [*iter(lambda: client.recv(65536), b"")])
        assert serving.get() is None
        reading.kill()
    assert "RuntimeError: a bug" in caplog.text
