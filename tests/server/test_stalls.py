"""A worker that stood still refuses nothing because of that: what lies in its socket by then counts."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from tests.api.raw_http import post, request
from tests.server.doors import Doors
from tests.support.answers import Answers
from tests.support.node import Node

BODY = b'{"client_id":"stalled","cost":0}'
CHECK = post("/v1/check", BODY)
BATCH = post("/v1/check/batch", (b'{"checks":[' + BODY + b"]}").ljust(200_000))
OTHER = request("GET /livez")
CLOSED = 0
# What is sent before the stall, what comes during it, and the status of the answer.
TALKS = {
    "the end of a check's body": (CHECK[:-10], CHECK[-10:], 200),
    "a check's whole body": (CHECK[: -len(BODY)], BODY, 200),
    "most of a large body": (BATCH[:1000], BATCH[1000:], 200),
    "the end of a head": (CHECK[:30], CHECK[30:], 200),
    "the end of another head": (OTHER[:10], OTHER[10:], 200),
    "a whole check": (b"", CHECK, 200),
    "the next check": (CHECK, CHECK, 200),
    "another request": (OTHER, OTHER, 200),
    "a body but for a byte": (CHECK[:-10], CHECK[-10:-1], 408),
    "a head but for a byte": (OTHER[:10], OTHER[10:-1], CLOSED),
    "nothing": (CHECK, b"", CLOSED),
}


@contextmanager
def stalled(node: Node) -> Iterator[None]:
    """The node's workers stand still meanwhile."""
    workers = node.workers
    for pid in workers:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in workers:
            os.kill(pid, signal.SIGCONT)


def longest_deadline_passes(node: Node) -> None:
    """That of a head, by a node that does not stand still. Bodies have less."""
    with socket.create_connection(("127.0.0.1", node.port), timeout=20) as witness:
        witness.sendall(OTHER[:10])
        assert witness.recv(1) == b""


def status_of(answers: Answers) -> int:
    """Of the next answer. A connection that is reset counts as neither answered nor closed."""
    try:
        return answers.next().status
    except ConnectionResetError:
        raise
    except ConnectionError:
        return CLOSED


@pytest.mark.parametrize(("door", "other"), [("fast", "stock"), ("stock", "fast")])
def test_what_came_during_a_stall_is_answered_and_what_did_not_is_late(doors: Doors, door: str, other: str) -> None:
    node: Node = getattr(doors, door)
    with ExitStack() as stack:
        talks = {}
        for name, (before, during, _) in TALKS.items():
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", node.port), timeout=20))
            answers = Answers(connection)
            connection.sendall(before)
            if before in (CHECK, OTHER):
                assert answers.next().status == 200
            talks[name] = connection, answers, during
        node.request("GET", "/livez", key=None)  # what was sent before has been read
        with stalled(node):
            for connection, _, during in talks.values():
                connection.sendall(during)
            longest_deadline_passes(getattr(doors, other))
        found = {name: status_of(answers) for name, (_, answers, _) in talks.items()}
    assert found == {name: status for name, (_, _, status) in TALKS.items()}
