"""Callers who mean harm, or are too many (rows 27 to 30 of the fault matrix)."""

from __future__ import annotations

import select
import socket
import time
from contextlib import ExitStack
from typing import Any

import pytest
import redis

from devstack import Valkey
from tests.api.check.test_strict_input import NOT_JSON, NOT_VALID
from tests.api.raw_http import CLOSE, HOST, JSON, exchange, post, request, statuses
from tests.api.test_problems import BARE, REFUSED
from tests.faults.conftest import StartNode, StartRedis
from tests.support.answers import Answers
from tests.support.burst import Burst
from tests.support.faults import ALL, Figures
from tests.support.load import Load, percentile
from tests.support.node import Node
from tests.support.processes import resident_bytes
from tests.support.slow import SlowClients

HOUR = {"rate": 1_000_000, "window": 3600, "algorithm": "fixed_window"}
MANY = 1_000_000 if ALL else 20_000
CROWDS = 10 if ALL else 3
MEBIBYTE = 1024 * 1024


@pytest.fixture
def busy(valkey: Valkey, start_node: StartNode) -> Node:
    return start_node(valkey.url)


@pytest.mark.fault(
    27, "50 clients that send heads and 50 that send bodies a byte at a time, and come back when cut off"
)
def test_slow_clients_keep_nobody_waiting(busy: Node, measured: Figures) -> None:
    """Honest clients are answered, with a p99 under 1 s; a slow head ends after `keepalive` (5 s), a body after 2 s."""
    busy.put_rule(client_id="honest", **HOUR)
    head = b"POST /v1/check HTTP/1.1\r\n" + HOST
    body = head + JSON + b"Content-Length: 4000\r\n\r\n"
    with (
        SlowClients(busy.port, 50, head, b"X-Slow: 1\r\n") as heads,
        SlowClients(busy.port, 50, body, b" ") as bodies,
        Load([busy], {"client_id": "honest"}, width=4) as load,
    ):
        assert busy.eventually(lambda: min(len(heads.lasted), len(bodies.lasted)) >= 50, 60)
    measured["honest checks"], measured["failed"] = len(load.answers), len(load.errors)
    measured["p99 ms"] = round(percentile([answer.seconds for answer in load.answers], 99) * 1e3, 1)
    measured["a slow head lasts at most, s"] = round(max(heads.lasted), 1)
    measured["a slow body, s"] = round(max(bodies.lasted), 1)
    assert load.errors == []
    assert load.statuses == {200}
    assert {status for answer in bodies.answers for status in statuses(answer)} == {408}
    assert measured["p99 ms"] < 2000


@pytest.mark.fault(28, "malformed heads, bodies and values: from tests/api, and from its fuzz tests")
def test_nothing_malformed_is_a_5xx_or_hangs(busy: Node, measured: Figures) -> None:
    """Each gets its 4xx within the time limits, and the node goes on."""
    bodies = [
        text if isinstance(text, bytes) else text.encode("utf-8") for text in (*NOT_JSON.values(), *NOT_VALID.values())
    ]
    hostile = [sent for sent, _ in (*REFUSED.values(), *BARE.values())]
    hostile += [post(path, body, CLOSE) for path in ("/v1/check", "/v1/check/batch") for body in bodies]
    answered = [statuses(exchange(busy.port, sent).raw)[0] for sent in hostile]
    measured["inputs"], measured["answers that are no 4xx"] = len(hostile), sum(not 400 <= s < 500 for s in answered)
    assert measured["answers that are no 4xx"] == 0
    assert "Traceback" not in busy.log.read_text()
    assert busy.check("honest", cost=0)["allowed"]


FORGED = "[forged] 2026-01-01 00:00:00,000 - app - ERROR - all is lost"


def test_no_caller_writes_lines_of_the_log(valkey: Valkey, start_node: StartNode) -> None:
    node = start_node(valkey.url, LOG_LEVEL="DEBUG")
    forged = FORGED.encode()
    quoted = "%0A" + FORGED.replace(" ", "%20").replace("[", "%5B").replace("]", "%5D")
    sent = [
        request(f"GET /{quoted}", CLOSE),
        request(f"GET /v1/admin/rules?client_id={quoted}", CLOSE),
        request("GET /livez", CLOSE, b"X-Correlation-ID: a\n" + forged + b"\r\n"),
        request("GET /livez", CLOSE, b"X: a\n" + forged + b"\r\n"),
        request("GET /livez", CLOSE, b"X-Correlation-ID: " + forged + b"\r\n"),
        request("GET /livez\n" + FORGED, CLOSE),
        post("/v1/check", b'{"client_id":"x\\n%b"}' % forged, CLOSE),
        post("/v1/check", b'{"client_id":"x\n%b"}' % forged, CLOSE),
        post("/v1/check", b"{}", CLOSE, b"X-API-Key: a\n" + forged + b"\r\n"),
    ]
    for one in sent:
        assert 400 <= exchange(node.port, one, end=True).status_code < 500 or b"/livez HTTP" in one
    assert not [line for line in node.log.read_text().splitlines() if line.startswith("[forged]")]


@pytest.mark.fault(29, f"{MANY:,} different client ids")
def test_many_clients_make_no_series_and_bounded_memory(busy: Node, measured: Figures) -> None:
    """No new series, a scrape stays quick, the workers' memory is bounded, and a client over its limit stays denied."""
    busy.put_rule(client_id="victim", **HOUR | {"rate": 5})
    busy.put_rule(client_id="unique *", rate=10, window=10)
    assert busy.check("victim", cost=5)["allowed"]
    unique(busy, 0, 1000)
    series, memory = scrape(busy)[0], memory_of(busy)
    unique(busy, 1000, 1000 + MANY)
    after, seconds = scrape(busy)
    measured["new series"] = len(after - series)
    measured["scrape, ms"] = round(seconds * 1e3)
    measured["a worker grew by at most, MiB"] = round(max(memory_of(busy) - memory, 0) / MEBIBYTE, 1)
    measured["victim denied"] = "yes" if not busy.check("victim")["allowed"] else "no"
    assert after - series == set()
    assert measured["victim denied"] == "yes"
    assert measured["a worker grew by at most, MiB"] < 100


def unique(node: Node, first: int, end: int) -> None:
    """Checks of so many clients that nobody has seen."""
    for start in range(first, end, 1000):
        checks: list[dict[str, Any]] = [{"client_id": f"unique {number}"} for number in range(start, start + 1000)]
        answer = node.request("POST", "/v1/check/batch", key=None, json={"checks": checks})
        assert answer.status_code == 200
        assert len(answer.json()["results"]) == 1000


def scrape(node: Node) -> tuple[set[str], float]:
    """The series, and how long it took to show them."""
    answer = node.request("GET", "/metrics", key=None)
    lines = [line for line in answer.text.splitlines() if not line.startswith("#")]
    return {line.rpartition(" ")[0] for line in lines}, answer.elapsed.total_seconds()


def memory_of(node: Node) -> int:
    """Of the largest worker, bytes of its own."""
    return max(resident_bytes(pid) for pid in node.workers)


@pytest.mark.fault(30, "ten times as many requests at once as keep the node busy: 400 instead of 40")
def test_overload_costs_waiting_not_work(busy: Node, measured: Figures) -> None:
    """Goodput with 400 at once is at least a third of goodput with 40, every request is answered, and the limit holds
    exactly.
    """
    busy.put_rule(client_id="crowd", **HOUR)
    goodput = {}
    for width, rounds in ((40, 50), (400, 5)):
        with Burst(busy.port, width) as burst:
            burst.check(client_id="crowd")
            began = time.monotonic()
            decisions = [decision for _ in range(rounds) for decision in burst.check(client_id="crowd")]
            goodput[width] = width * rounds / (time.monotonic() - began)
        assert not any(decision["degraded"] for decision in decisions)
    charged = HOUR["rate"] - busy.check("crowd", cost=0)["remaining"]
    measured["checks/s with 40 at once"], measured["with 400"] = round(goodput[40]), round(goodput[400])
    measured["unanswered"], measured["charged too much or little"] = 0, charged - 40 * 51 - 400 * 6
    assert measured["charged too much or little"] == 0
    assert goodput[400] > goodput[40] / 3


@pytest.mark.fault(30, "16 callers at once whose batches of 1,000 take the one worker a quarter of a second to decode")
def test_a_busy_worker_is_not_taken_for_a_silent_redis(
    start_redis: StartRedis, start_node: StartNode, measured: Figures
) -> None:
    """Redis decides all of them, whatever its timeout (50 ms), also while it is connected to anew; no breaker opens."""
    own = start_redis()
    node = start_node(own.url, WEB_CONCURRENCY=1, REDIS_TIMEOUT_MS=50)
    checks = ",".join(f'{{"client_id":"\\u00e9{number}"}}' for number in range(1000))  # escapes: the slow decoder
    batch = post("/v1/check/batch", f'{{"checks":[{checks}]}}'.encode())
    degraded = 0
    with ExitStack() as stack:
        admin = stack.enter_context(redis.Redis.from_url(own.url))
        address = ("127.0.0.1", node.port)
        crowd = [stack.enter_context(socket.create_connection(address, timeout=60)) for _ in range(16)]
        answers = [Answers(connection) for connection in crowd]
        for _ in range(CROWDS):
            for connection in crowd:
                connection.sendall(batch)
            received = [each.next() for each in answers]
            assert {answer.status for answer in received} == {200}
            admin.client_kill_filter(_type="normal", skipme=True)  # nothing is under way
            degraded += sum(answer.body.count(b'"degraded":true') for answer in received)
    measured["checks"], measured["degraded"] = 16_000 * CROWDS, degraded
    assert degraded == 0
    assert node.request("GET", "/circuit-breaker-status", key=None).json()["state"] == "closed"


@pytest.mark.fault(
    30, "five times as many silent connections as the workers take (20 each), and an honest client behind them"
)
def test_a_flood_of_connections_ends(valkey: Valkey, start_node: StartNode, measured: Figures) -> None:
    """Silent connections end after `keepalive`, connections behind them get their turn, and none hangs."""
    node = start_node(valkey.url, GUNICORN_CMD_ARGS="--worker-connections 20 --keep-alive 1")
    began = time.monotonic()
    with ExitStack() as stack:
        flood = [
            stack.enter_context(socket.create_connection(("127.0.0.1", node.port), timeout=60)) for _ in range(200)
        ]
        honest = stack.enter_context(socket.create_connection(("127.0.0.1", node.port), timeout=60))
        honest.sendall(post("/v1/check", b'{"client_id":"patient"}', CLOSE))
        assert statuses(honest.recv(65536)) == [200]
        measured["honest client behind them answered after, s"] = round(time.monotonic() - began, 1)
        still_open = set(flood)
        while still_open:
            readable = select.select(still_open, [], [], 60)[0]
            assert readable, f"{len(still_open)} connections hang"
            for connection in readable:
                assert connection.recv(1) == b""
                still_open.remove(connection)
        measured["all closed after, s"] = round(time.monotonic() - began, 1)
    assert node.check("patient")["allowed"]
