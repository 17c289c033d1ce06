"""Clients that do not read their answers, or hardly: they lose the connection, and nobody waits for them."""

from __future__ import annotations

import contextlib
import select
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack

import gevent
import pytest
from gevent.socket import socketpair

from app.server import sending
from app.server.sending import Sender
from devstack import Valkey
from tests.api.raw_http import CLOSE, post, request, statuses
from tests.server.test_pipelines import slow_reader
from tests.support.node import Node

LARGE = request("GET /docs/swagger-ui-bundle.js")
BATCH = post("/v1/check/batch", b'{"checks":[' + b",".join([b'{"client_id":"slow","cost":0}'] * 1000) + b"]}")
CHECK = post("/v1/check", b'{"client_id":"slow","cost":0}', CLOSE)
ANSWER = b"x" * 1_000_000


class Talk:
    """A sender and the client of its connection; `hurried` is what the worker would say."""

    def __init__(self) -> None:
        self.hurried = False
        self.served, self.client = socketpair()
        self.served.settimeout(0)
        self.sender = Sender(self.served, lambda: self.hurried)

    def fill(self) -> int:
        """Send until nothing more goes; the bytes that went."""
        count = 0
        with contextlib.suppress(BlockingIOError):
            while True:
                count += self.served.send(ANSWER)
        return count

    def read(self, size: int, pause: float = 0) -> int:
        """Read to the end, so many bytes at a time; how many came."""
        count = 0
        while data := self.client.recv(size):
            count += len(data)
            gevent.sleep(pause)
        return count


@pytest.fixture
def talk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Talk]:
    """With a fifth of a second for an answer, so that no test has to wait for ten."""
    monkeypatch.setattr(sending, "SEND_SECONDS", 0.2)
    monkeypatch.setattr(sending, "HURRY_SECONDS", 0.02)
    made = Talk()
    with made.served, made.client:
        yield made


def test_an_answer_that_nobody_reads_is_given_up(talk: Talk) -> None:
    with pytest.raises(TimeoutError):
        talk.sender.send(ANSWER)


def test_reading_a_byte_now_and_then_does_not_prolong_it(talk: Talk) -> None:
    """Nor do many parts: there is one time for all of an answer."""
    reading = gevent.spawn(talk.read, 1, 0.01)

    def send() -> None:
        for start in range(0, len(ANSWER), 1000):
            talk.sender.send(ANSWER[start : start + 1000])

    with pytest.raises(TimeoutError):
        send()
    reading.kill()


def test_each_answer_has_a_time_of_its_own(talk: Talk) -> None:
    talk.fill()
    with pytest.raises(TimeoutError):
        talk.sender.send(ANSWER)
    reading = gevent.spawn(talk.read, 65536)
    talk.sender.begin()
    talk.sender.send(ANSWER)
    reading.kill()


def test_a_client_that_reads_steadily_gets_an_answer_that_takes_longer(
    talk: Talk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending, "BYTES_PER_SECOND", 100_000)
    began = time.monotonic()
    reading = gevent.spawn(talk.read, 20_000, 0.01)
    talk.sender.send(ANSWER)
    talk.served.close()
    assert reading.get() == len(ANSWER)
    assert time.monotonic() - began > sending.SEND_SECONDS  # else this shows nothing


def test_a_worker_that_was_late_itself_sends_first_and_judges_then(talk: Talk) -> None:
    """All of the time passes in one stall of the event loop, in which the client reads all there is."""
    full = talk.fill()

    def stall() -> None:
        time.sleep(2 * sending.SEND_SECONDS)
        assert len(talk.client.recv(full, socket.MSG_WAITALL)) == full

    gevent.spawn(stall)
    talk.sender.send(ANSWER[:1000])


def test_in_a_hurry_a_client_that_takes_nothing_is_given_up_at_once(
    talk: Talk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending, "SEND_SECONDS", 3600)
    talk.sender.begin()
    talk.hurried = True
    with pytest.raises(TimeoutError):
        talk.sender.send(ANSWER)


@pytest.fixture(scope="module")
def small(valkey: Valkey, database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """One worker that takes four connections."""
    settings = {"REDIS_TIMEOUT_MS": 5000, "WEB_CONCURRENCY": 1, "GUNICORN_CMD_ARGS": "--worker-connections 4"}
    data_dir = tmp_path_factory.mktemp("small")
    with Node(redis_url=valkey.url, database_url=database_url, data_dir=data_dir, **settings) as node:
        yield node


@pytest.mark.parametrize("sent", [LARGE * 8, BATCH * 20], ids=["gunicorn's path", "the fast lane"])
def test_three_times_as_many_as_a_worker_takes_do_not_keep_others_out(small: Node, sent: bytes) -> None:
    """A worker with no free slot gives up a client that takes nothing for a second; an honest one waits for seconds."""
    with ExitStack() as stack:
        crowd = [stack.enter_context(slow_reader(small.port)) for _ in range(12)]
        for connection in crowd:
            connection.sendall(sent)
        for asked in (request("GET /livez", CLOSE), CHECK):
            with socket.create_connection(("127.0.0.1", small.port), timeout=9) as honest:
                honest.sendall(asked)
                assert statuses(honest.recv(65536)) == [200]
    assert "Traceback" not in small.log.read_text()


def test_a_pipeline_does_not_keep_others_waiting(small: Node) -> None:
    """One worker; while it has hundreds of requests of one connection before it, it answers another connection."""
    with slow_reader(small.port) as crowd, socket.create_connection(("127.0.0.1", small.port), timeout=20) as honest:
        honest.sendall(CHECK.replace(CLOSE, b""))
        assert statuses(honest.recv(65536)) == [200]
        crowd.sendall(request("GET /livez") * 300)
        honest.sendall(CHECK)
        assert statuses(honest.recv(65536)) == [200]
        received = b""
        while select.select([crowd], [], [], 0)[0]:
            received += crowd.recv(65536)
        assert received.count(b"HTTP/1.1 200") < 300
