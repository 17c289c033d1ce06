"""Pieces of long requests: how many are under way, and when the event loop looks at its sockets."""

from __future__ import annotations

import socket
from collections.abc import Callable

import gevent
import pytest
from gevent.socket import wait_read

from app.api.check.batch_pieces import BatchPieces
from app.rules.sync.yielding import PIECE_SECONDS
from tests.support.clock import Clock

REQUESTS, AT_ONCE = 20, 2


def all_of(work: Callable[[], None]) -> None:
    with gevent.Timeout(20):
        gevent.joinall([gevent.spawn(work) for _ in range(REQUESTS)], raise_error=True)


def test_so_many_are_under_way_and_no_more() -> None:
    pieces, seen = BatchPieces(Clock(), at_once=AT_ONCE, seconds=PIECE_SECONDS), []
    under_way: set[gevent.Greenlet] = set()

    def work() -> None:
        with pieces:
            under_way.add(gevent.getcurrent())
            gevent.sleep(0.001)
            seen.append(len(under_way))
            under_way.remove(gevent.getcurrent())

    all_of(work)
    assert max(seen) == AT_ONCE
    assert len(seen) == REQUESTS


@pytest.mark.parametrize("pieces_each", [1, 5])
def test_sockets_are_looked_at_however_many_requests_wait(pieces_each: int) -> None:
    """None of them waits for anything but its slot, as where every answer is known."""
    clock = Clock()
    pieces, done, looked = BatchPieces(clock, at_once=AT_ONCE, seconds=PIECE_SECONDS), [], []
    here, other = socket.socketpair()

    def work() -> None:
        for _ in range(pieces_each):
            with pieces:
                clock.now += PIECE_SECONDS * 1.1
                done.append(1)

    def look() -> None:
        for _ in range(3):
            wait_read(other.fileno())
            looked.append(len(done))

    with here, other:
        here.send(b"ready")
        looking = gevent.spawn(look)
        all_of(work)
        looking.join(20)
    assert len(looked) == 3
    assert looked[-1] < REQUESTS


def test_short_requests_never_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even the last of many between which the event loop has looked."""
    clock = Clock()
    pieces, rests = BatchPieces(clock, at_once=AT_ONCE, seconds=PIECE_SECONDS), []
    turn = gevent.sleep
    monkeypatch.setattr(gevent, "sleep", rests.append)
    for _ in range(5):
        with pieces:
            clock.now += PIECE_SECONDS * 0.9
        turn(0.001)
    assert rests == []


def test_a_long_request_lets_those_that_wait_go_first() -> None:
    pieces, order = BatchPieces(Clock(), at_once=1, seconds=PIECE_SECONDS), []

    def work(name: str, count: int) -> None:
        for _ in range(count):
            with pieces:
                order.append(name)
                gevent.sleep(0)  # the other comes, and waits
            pieces.give_way()

    gevent.joinall([gevent.spawn(work, "long", 5), gevent.spawn(work, "short", 1)], timeout=20, raise_error=True)
    assert order.index("short") == 1
