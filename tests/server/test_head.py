"""A head reaches the parser whole and in few pieces, however it is cut on its way, or it is refused for its size."""

from __future__ import annotations

from itertools import pairwise

import pytest
from gunicorn.http.errors import LimitRequestHeaders, LimitRequestLine
from hypothesis import given
from hypothesis import strategies as st

from app.server.head import MAX_HEAD, MAX_LINE, Head, end_of_head
from tests.api.raw_http import post, request

REST = b"whatever\r\n\r\nfollows"
HEADS = {
    "a check": post("/v1/check", b""),
    "no field": b"GET / HTTP/1.0\r\n\r\n",
    "an empty line first": b"\r\n" + request("GET /livez"),
    "the largest": request("GET /livez", b"X: " + b"x" * (MAX_HEAD - len(request("GET /livez")) - 5) + b"\r\n"),
}


def pieces(head: Head, packets: list[bytes]) -> list[bytes]:
    """What the parser is given of a head that arrives in these packets."""
    given = []
    for packet in packets:
        head.add(packet)
        if piece := head.due():
            given.append(piece)
        if end_of_head(b"".join(given)) > 0:
            break
    return given


def test_the_largest_is_that() -> None:
    assert len(HEADS["the largest"]) == MAX_HEAD


@given(sent=st.sampled_from(list(HEADS.values())), cuts=st.lists(st.floats(0, 1), max_size=6))
def test_wherever_a_head_is_cut_it_is_given_in_two_pieces_at_most(sent: bytes, cuts: list[float]) -> None:
    data = sent + REST
    places = [0, *sorted(int(cut * len(data)) for cut in cuts), len(data)]
    given = pieces(Head(), [data[start:end] for start, end in pairwise(places)])
    assert end_of_head(b"".join(given)) == len(sent)
    assert data.startswith(b"".join(given))
    assert len(given) in (1, 2)


@pytest.mark.parametrize("sent", HEADS.values(), ids=HEADS)
def test_a_head_that_comes_byte_by_byte_is_given_in_two_pieces(sent: bytes) -> None:
    given = pieces(Head(), [sent[place : place + 1] for place in range(len(sent))])
    assert b"".join(given) == sent
    assert len(given) == 2


@pytest.mark.parametrize(
    "begun",
    [b"garbage\r\n", b"garbage\n", b"\n", b"\r\n\r\n", b"GET / HTTP/1.1\r\nHost: x\n", b"x" * (MAX_LINE + 5)],
    ids=repr,
)
def test_what_the_parser_refuses_does_not_wait_for_the_end_of_the_head(begun: bytes) -> None:
    assert b"".join(pieces(Head(), [begun])) == begun


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize(
    ("begun", "error"), [(b"GET / HTTP/1.1\r\nX: ", LimitRequestHeaders), (b"GET /", LimitRequestLine)]
)
def test_a_head_above_the_bound_is_refused(begun: bytes, error: type[Exception], whole: bool) -> None:
    with pytest.raises(error):
        pieces(Head(), [begun + b"x" * MAX_HEAD + (b"\r\n\r\n" if whole else b"")])


def test_bytes_are_counted_whatever_the_parser_has_seen_of_them() -> None:
    with pytest.raises(LimitRequestHeaders):
        pieces(Head(), [b"GET / HTTP/1.1\r\nX: ", *[b"x" * 100] * 164])
