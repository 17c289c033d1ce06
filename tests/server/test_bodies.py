"""Bodies through both doors: of any content, of every size around the bounds, and slow ones."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.api.raw_http import post, statuses
from tests.server.doors import Doors, answers, spoken
from tests.support.answers import Answers, Received
from tests.support.examples import examples

ID = b"X-Correlation-ID: parity\r\n"
# Of no rule but `*`, which allows everything: whatever is made of them, both doors give the same numbers.
CHECK = b'{"client_id":"bodies","limit_key":"key","cost":1,"request_id":"r-1"}'
BATCH = b'{"checks":[' + CHECK + b',{"client_id":"bodies"}]}'
NEXT = post("/v1/check", b'{"client_id":"bodies"}', ID)

JSON_PIECES = st.sampled_from(
    [*(bytes([character]) for character in b'"\\{}[],:0-. \n\x00\x7f\xff'), b"e9", b"null", b"true", b"NaN"]
) | st.sampled_from(
    [
        b"\\u0000",
        b"\\ud800",
        b"\\u0061",
        "é\u2028".encode(),
        b"\xed\xa0\x80",
        b'"cost":1,',
        b'"co\\u0073t":0,',
        b'"client_id":"x",',
        b'"x":1,',
        b"1e400",
        b"9" * 400,
        b"[" * 2000,
    ]
)


@st.composite
def mutated(draw: st.DrawFn) -> tuple[str, bytes]:
    """A path and a body, in which up to three places were cut or filled."""
    path, body = draw(st.sampled_from([("/v1/check", CHECK), ("/v1/check/batch", BATCH)]))
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(body)))
        inserted = draw(st.just(b"") | JSON_PIECES | st.binary(max_size=3))
        body = body[:at] + inserted + body[at + draw(st.integers(0, 12)) :]
    return path, body


@settings(max_examples=examples(500), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sent=mutated())
def test_no_change_of_a_body_makes_the_doors_differ(doors: Doors, sent: tuple[str, bytes]) -> None:
    path, body = sent
    data = post(path, body, ID) + NEXT
    assert answers(spoken(doors.fast.port, data)) == answers(spoken(doors.stock.port, data))


@pytest.mark.parametrize(("path", "body", "bound"), [("/v1/check", CHECK, 8192), ("/v1/check/batch", BATCH, 262_144)])
def test_a_body_may_have_its_bound_but_no_byte_more(doors: Doors, path: str, body: bytes, bound: int) -> None:
    for size, expected in ((bound - 1, [200, 200]), (bound, [200, 200]), (bound + 1, [413])):
        sent = post(path, body.ljust(size), ID) + NEXT
        fast = spoken(doors.fast.port, sent)
        assert statuses(fast) == expected
        assert answers(fast) == answers(spoken(doors.stock.port, sent))


@contextmanager
def begun(port: int) -> Iterator[tuple[socket.socket, Answers]]:
    """A connection on which a check was answered, and the half of another one was sent."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        received = Answers(connection)
        connection.sendall(NEXT + post("/v1/check", CHECK[:30], ID, length=len(CHECK)))
        assert received.next().status == 200
        yield connection, received


def test_a_body_that_comes_byte_by_byte_in_time_is_read(doors: Doors) -> None:
    def drip(port: int) -> bytes:
        with begun(port) as (connection, received):
            for place in range(30, len(CHECK)):
                connection.sendall(CHECK[place : place + 1])
            assert received.next().status == 200
            return received.rest()

    assert [drip(door.port) for door in doors] == [b"", b""]


def test_a_body_that_stops_half_way_is_408_at_both_doors(doors: Doors) -> None:
    def wait(port: int) -> Received:
        with begun(port) as (_, received):
            late = received.next()
            assert received.until_closed() == b""
            return late

    fast, stock = at_both(doors, wait)
    assert (fast.status, fast.closes) == (408, True)
    assert fast == stock


def test_a_body_that_goes_on_coming_too_slowly_gets_its_408_whole(doors: Doors) -> None:
    """Its last bytes arrive after the answer was sent: a connection reset because of them might lose the answer."""

    def drip(port: int) -> Received:
        with begun(port) as (connection, received):
            connection.settimeout(0.2)  # between the bytes
            for place in range(30, len(CHECK)):
                connection.sendall(CHECK[place : place + 1])
                try:
                    late = received.next()
                except TimeoutError:
                    continue
                connection.settimeout(20)
                connection.sendall(CHECK[place + 1 :])
                assert received.rest() == b""
                return late
        raise AssertionError("the whole body was accepted")

    fast, stock = at_both(doors, drip)
    assert (fast.status, fast.closes) == (408, True)
    assert fast == stock


def test_a_body_that_no_view_wants_is_no_part_of_the_next_head(doors: Doors) -> None:
    """It may be as long as a head."""
    unwanted = post("/livez", b"x" * 16_000)
    sent = unwanted + unwanted + post("/v1/check", b'{"client_id":"after","cost":0}', b"Connection: close\r\n")
    for door in doors:
        with socket.create_connection(("127.0.0.1", door.port), timeout=20) as connection:
            connection.sendall(sent)
            received = b"".join(iter(lambda: connection.recv(65536), b""))
        assert statuses(received) == [405, 405, 200]


def at_both(doors: Doors, talk: Callable[[int], Received]) -> list[Received]:
    """What a talk with each door gives; both at once, as they take seconds."""
    with ThreadPoolExecutor() as at_once:
        return list(at_once.map(talk, [door.port for door in doors]))
