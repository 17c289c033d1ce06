"""Requests sent before their predecessors were answered: the answers come in order, whatever is among them."""

from __future__ import annotations

import select
import socket
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.api.raw_http import CLOSE, HOST, JSON, post, request
from tests.server.doors import Doors, answers, spoken
from tests.support.answers import Answers
from tests.support.examples import examples

PEEK = b'{"client_id":"parity","cost":0}'
ID = b"X-Correlation-ID: parity-NNN\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
CHECK = post("/v1/check", PEEK, ID)
OPEN = (  # they leave the connection open
    CHECK,
    post("/v1/check/batch", b'{"checks":[' + PEEK + b"," + PEEK + b"]}", ID),
    post("/v1/check", b"nonsense", ID),
    post("/v1/check", PEEK, ID, b"X-API-Key: wrong\r\n"),
    post("/v1/check", PEEK, ID, b"X-Under_score: 1\r\n"),
    request("GET /livez", ID),
    request("PUT /v1/check", JSON, b"Content-Length: 2\r\n", ID, body=b"{}"),
    b"\r\n" + CHECK,
)
LAST = (  # they are the last on their connection
    post("/v1/check", PEEK, ID, CLOSE),
    post("/v1/checks", PEEK, ID),
    request("GET /livez", b"Content-Length: 2\r\n", ID, body=b"{}"),
    CHECK.replace(b"HTTP/1.1", b"HTTP/1.0"),
    post("/v1/check", PEEK.ljust(9000), ID),
    request("POST /v1/check", JSON, CHUNKED, ID, body=b"2\r\n{}\r\n0\r\n\r\n"),
    post("/v1/check", PEEK, ID, CHUNKED),
    b"POST /v1/check HTTP/1.1\n" + HOST + b"\n",
    b"\x00garbage\r\n\r\n",
    post("/v1/check", PEEK, ID, length=9000),
)
EXAMPLES = settings(
    max_examples=examples(150), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def numbered(requests: list[bytes]) -> bytes:
    """The requests one after the other, each with its place in its correlation id."""
    return b"".join(one.replace(b"NNN", b"%d" % place) for place, one in enumerate(requests))


def ids(found: list[tuple[object, ...]]) -> list[object]:
    return [headers["x-correlation-id"] for _, headers, _ in found if isinstance(headers, dict)]


@EXAMPLES
@given(first=st.lists(st.sampled_from(OPEN), min_size=1, max_size=8), last=st.lists(st.sampled_from(LAST), max_size=1))
def test_any_sequence_of_requests_is_answered_in_order(doors: Doors, first: list[bytes], last: list[bytes]) -> None:
    sent = numbered([*first, *last, CHECK])
    fast = answers(spoken(doors.fast.port, sent))
    assert fast == answers(spoken(doors.stock.port, sent))
    assert ids(fast[: len(first)]) == [f"parity-{place}" for place in range(len(first))]


@EXAMPLES
@given(requests=st.lists(st.sampled_from(OPEN), min_size=2, max_size=5), cuts=st.lists(st.floats(0, 1), max_size=3))
def test_wherever_a_sequence_is_cut_the_answers_are_the_same(
    doors: Doors, requests: list[bytes], cuts: list[float]
) -> None:
    sent = numbered(requests)
    places = [0, *sorted(int(cut * len(sent)) for cut in cuts), len(sent)]
    pieces = [sent[start:end] for start, end in pairwise(places)]
    assert answers(spoken(doors.fast.port, *pieces)) == answers(spoken(doors.stock.port, sent))


@pytest.mark.parametrize(
    "middle", [CHECK, request("GET /livez", ID)], ids=["all of them plain", "an odd one among them"]
)
def test_five_hundred_requests_in_one_write_get_five_hundred_answers(doors: Doors, middle: bytes) -> None:
    sent = numbered([CHECK] * 250 + [middle] + [CHECK] * 249)
    fast = answers(spoken(doors.fast.port, sent))
    assert ids(fast) == [f"parity-{place}" for place in range(500)]
    assert fast == answers(spoken(doors.stock.port, sent))


def test_two_thousand_requests_wait_for_a_slow_reader_and_nobody_else_does(doors: Doors) -> None:
    """More bytes than the buffers of the system take, in both directions: the node stops reading until it can send."""
    batch = post("/v1/check/batch", (b'{"checks":[' + b",".join([PEEK] * 20) + b"]}").ljust(8000), ID)
    sent = numbered([batch] * 2000)
    with slow_reader(doors.fast.port) as reader:
        taken = stuffed(reader, sent)
        assert taken < len(sent)
        assert ids(answers(spoken(doors.fast.port, numbered([CHECK] * 200)))) == [f"parity-{n}" for n in range(200)]
        answer = Answers(reader)
        with ThreadPoolExecutor() as meanwhile:
            rest = meanwhile.submit(reader.sendall, sent[taken:])
            received = [answer.next() for _ in range(2000)]
            rest.result()
        assert [one.status for one in received] == [200] * 2000
        assert [one.correlation_id for one in received] == [b"parity-%d" % place for place in range(2000)]
        assert answer.rest() == b""


def test_a_slow_reader_may_leave(doors: Doors) -> None:
    before = len(doors.fast.log.read_text())
    batch = post("/v1/check/batch", (b'{"checks":[' + b",".join([PEEK] * 1000) + b"]}"))
    with slow_reader(doors.fast.port) as reader:
        stuffed(reader, batch * 200)
    assert [status for status, *_ in answers(spoken(doors.fast.port, CHECK))] == ["200"]
    assert "Traceback" not in doors.fast.log.read_text()[before:]


def slow_reader(port: int) -> socket.socket:
    reader = socket.socket()
    reader.settimeout(20)
    reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    reader.connect(("127.0.0.1", port))
    return reader


def stuffed(reader: socket.socket, sent: bytes) -> int:
    """How many bytes a node takes whose answers nobody reads. It is stuck once it takes none for a second."""
    taken = 0
    while taken < len(sent) and select.select([], [reader], [], 1)[1]:
        taken += reader.send(sent[taken : taken + 65536])
    return taken
