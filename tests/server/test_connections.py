"""The life of a connection: how long it may idle, and that no request is lost when its worker or node goes."""

from __future__ import annotations

import os
import random
import select
import signal
import socket
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import gevent
import gevent.socket
import pytest

from devstack import Valkey
from tests.api.raw_http import post, request
from tests.support.answers import Answers
from tests.support.faults import Figures
from tests.support.node import Node

ID = b"X-Correlation-ID: mine\r\n"
CHECK = post("/v1/check", b'{"client_id":"connections","cost":0}', ID)
CALLERS, CHECKS, CHECKS_OF_A_WORKER = 32, 2500, 500


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=30)


def test_an_idle_connection_is_closed_and_a_busy_one_is_not(valkey: Valkey, database_url: str, tmp_path: Path) -> None:
    settings = {"REDIS_TIMEOUT_MS": 5000, "GUNICORN_CMD_ARGS": "--keep-alive 1"}
    with (
        Node(redis_url=valkey.url, database_url=database_url, data_dir=tmp_path, **settings) as node,
        ExitStack() as stack,
    ):
        busy, *idle = [stack.enter_context(connect(node.port)) for _ in range(5)]
        # Nothing at all, a check, half of the next one's head, and what the fast lane hands on.
        for connection, sent in zip(idle, (b"", CHECK, CHECK + CHECK[:40], request("GET /livez", ID)), strict=True):
            connection.sendall(sent)
            if sent:
                assert Answers(connection).next().status == 200
        answers, still_open = Answers(busy), set(idle)
        while still_open:
            busy.sendall(CHECK)
            assert answers.next().status == 200
            for closed in select.select(still_open, [], [], 0)[0]:
                assert closed.recv(65536) == b""
                still_open.remove(closed)
        busy.sendall(CHECK)
        assert answers.next().status == 200
        assert answers.rest() == b""


@pytest.mark.fault(18, "workers are replaced under load (max_requests)")
def test_no_request_is_lost_when_workers_are_replaced(
    valkey: Valkey, database_url: str, tmp_path: Path, measured: Figures
) -> None:
    """No request is lost: a connection ends with an answer that says so, or after it was left unused."""
    settings = {"REDIS_TIMEOUT_MS": 5000, "GUNICORN_CMD_ARGS": f"--max-requests {CHECKS_OF_A_WORKER}"}
    asked, replaced = 0, 0

    def caller(port: int, dice: random.Random) -> None:
        nonlocal asked, replaced
        while asked < CHECKS:
            with gevent.socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
                answers: Any = Answers(connection)
                closes = False
                while not closes and asked < CHECKS:
                    asked += 1
                    connection.sendall(CHECK)
                    received = answers.next()
                    assert (received.status, received.correlation_id) == (200, b"mine")
                    closes = received.closes
                    gevent.sleep(dice.random() / 10)  # as callers do, it has no request out most of the time
                replaced += closes

    with Node(redis_url=valkey.url, database_url=database_url, data_dir=tmp_path, **settings) as node:
        callers = [gevent.spawn(caller, node.port, random.Random(number)) for number in range(CALLERS)]
        gevent.joinall(callers, raise_error=True)
        assert replaced > CALLERS
        assert "Traceback" not in node.log.read_text()
    measured["requests"], measured["connections ended meanwhile"], measured["lost"] = asked, replaced, 0


def test_a_stop_answers_what_is_in_flight_and_says_that_it_closes(
    valkey: Valkey, database_url: str, tmp_path: Path
) -> None:
    """The second request of each connection need not be answered, but it must not cost the first one its answer."""
    settings = {"REDIS_TIMEOUT_MS": 20_000, "WEB_CONCURRENCY": 1}
    with (
        Node(redis_url=valkey.url, database_url=database_url, data_dir=tmp_path, **settings) as node,
        ExitStack() as stack,
    ):
        node.check("connections", cost=0)  # the worker is connected to Redis
        idle, *asking = [stack.enter_context(connect(node.port)) for _ in range(20)]
        os.kill(valkey.pid, signal.SIGSTOP)
        try:
            for connection in asking:
                connection.sendall(CHECK * 2)
            os.kill(node.pid, signal.SIGTERM)
            assert Answers(idle).until_closed() == b""  # the worker knows
        finally:
            os.kill(valkey.pid, signal.SIGCONT)
        for connection in asking:
            answers = Answers(connection)
            received = answers.next()
            assert (received.status, received.correlation_id, received.closes) == (200, b"mine", True)
            assert b'"degraded":false' in received.body
            assert answers.until_closed() == b""
            connection.close()
        node.stop(signal.SIGCONT)  # nothing more than to wait for its end


def test_a_stop_answers_also_what_waits_in_the_backlog(valkey: Valkey, database_url: str, tmp_path: Path) -> None:
    """Where no proxy stands before the node, callers that have connected and asked are answered, each with a close."""
    settings = {"REDIS_TIMEOUT_MS": 5000, "WEB_CONCURRENCY": 1, "GUNICORN_CMD_ARGS": "--worker-connections 2"}
    with (
        Node(redis_url=valkey.url, database_url=database_url, data_dir=tmp_path, **settings) as node,
        ExitStack() as stack,
    ):
        served = [stack.enter_context(connect(node.port)) for _ in range(2)]
        for connection in served:  # the only two that the worker takes, for two seconds
            connection.sendall(CHECK[:-1])
        waiting = [stack.enter_context(connect(node.port)) for _ in range(6)]
        for connection in waiting:
            connection.sendall(CHECK)
        os.kill(node.pid, signal.SIGTERM)
        for connection in served:
            assert Answers(connection).next().status == 408
            connection.close()
        for connection in waiting:
            answers = Answers(connection)
            received = answers.next()
            assert (received.status, received.closes) == (200, True)
            assert answers.until_closed() == b""
            connection.close()
        node.stop(signal.SIGCONT)
