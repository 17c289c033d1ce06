"""Connections made to cost much: heads byte by byte, answers that nobody reads, stalls of the node (rows 7 to 9)."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from devstack import Valkey
from tests.api.raw_http import HOST, JSON, post
from tests.support.answers import Answers
from tests.support.burden import burden
from tests.support.matrix import ATTACKS, Figures
from tests.support.node import Node
from tests.support.pace import slowness

DRIP_SECONDS = 4 if ATTACKS.whole else 1.5
BATCH = b"POST /v1/check/batch HTTP/1.1\r\n" + HOST + JSON
HEADS = {
    "180 KB of head": b"GET /livez HTTP/1.1\r\n"
    + HOST
    + b"".join(b"X-%d: %b\r\n" % (n, b"a" * 4000) for n in range(45)),
    "15 KB of head": b"GET /livez HTTP/1.1\r\n" + HOST + b"".join(b"X-%d: %b\r\n" % (n, b"a" * 3000) for n in range(5)),
    "3 KB of head": b"POST /v1/check HTTP/1.1\r\n" + HOST + b"X: " + b"a" * 3000,
    "250 KB of body": BATCH + b"Content-Length: 262144\r\n\r\n" + b" " * 250_000,
}
BUNDLE = b"GET /docs/swagger-ui-bundle.js HTTP/1.1\r\n" + HOST + b"\r\n"
ESTABLISHED = "01"  # in /proc/net/tcp
SLOTS = 10  # connections that a worker takes
HONEST = {"/v1/check": b'{"client_id":"honest"}', "/v1/check/batch": b'{"checks":[{"client_id":"honest"}]}'}
STALL_SECONDS = 5.5  # longer than a head (5 s) or a body (2 s) may take


class Drip:
    """4 connections that send the beginning and then one byte a packet, for a time or until they are cut off."""

    def __init__(self, port: int, beginning: bytes) -> None:
        self.packets = self.cut = 0
        self._address, self._beginning = ("127.0.0.1", port), beginning
        self._threads = [threading.Thread(target=self._send) for _ in range(4)]

    def run(self) -> None:
        self._until = time.monotonic() + DRIP_SECONDS
        for thread in self._threads:
            thread.start()
        for thread in self._threads:
            thread.join(60)

    def _send(self) -> None:
        with socket.create_connection(self._address, timeout=30) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            try:
                connection.sendall(self._beginning)
                while time.monotonic() < self._until and not select.select([connection], [], [], 0)[0]:
                    connection.send(b"b")
                    self.packets += 1
                    time.sleep(0.0002)
                self.cut += bool(select.select([connection], [], [], 0)[0])
            except OSError:
                self.cut += 1


@pytest.mark.parametrize("beginning", HEADS)
@pytest.mark.attack(7, "4 connections that send so much at once, and then on in packets of one byte")
def test_packets_of_one_byte_cost_little(attacked: Node, measured: Figures, beginning: str) -> None:
    """A head beyond 16 KiB is refused at once; whatever is read byte by byte costs its length once, and others are
    answered."""
    drip = Drip(attacked.port, HEADS[beginning])
    with burden(attacked) as load:
        drip.run()
    measured["packets"], measured["connections refused, of 4"] = drip.packets, drip.cut
    measured["CPU s"], measured["others' p50, ms"] = load.cpu_seconds, load.others.ms(50)
    measured["longest, ms"] = load.longest_ms
    if beginning == "180 KB of head":
        assert drip.cut == 4
    # A packet costs the worker 0.1 ms or so; it was 0.4 ms where all of the head was read again.
    assert load.cpu_seconds / slowness() - 0.0002 * len(load.others.seconds) < 0.5 + 0.0002 * drip.packets
    assert load.others.failed == 0


@pytest.fixture
def narrow(redis_server: Valkey, rules_database: str, tmp_path: Path) -> Iterator[Node]:
    """A node whose workers take SLOTS connections each."""
    node = Node(
        redis_url=redis_server.url,
        database_url=rules_database,
        data_dir=tmp_path,
        GUNICORN_CMD_ARGS=f"--worker-connections {SLOTS}",
        REDIS_TIMEOUT_MS=2000,
    )
    with node as running:
        yield running


@pytest.mark.skipif(not ATTACKS.whole, reason="make attack: every answer that is not read is waited for")
@pytest.mark.attack(8, "60 connections, of 20 that two workers take, ask for megabytes and read a byte a second")
def test_callers_that_do_not_read_lose_their_connections(narrow: Node, measured: Figures) -> None:
    """Each is cut off within the time that an answer may take, 10 s, and others are answered."""
    with contextlib.ExitStack() as stack:
        readers = [stack.enter_context(_reader(narrow.port)) for _ in range(60)]
        over = threading.Event()
        sipping = threading.Thread(target=_sip, args=(readers, over))
        sipping.start()
        stack.callback(sipping.join)
        stack.callback(over.set)
        measured["honest /livez answered after, s"] = _answered_after(narrow, "/livez")
        measured["/v1/check, s"] = _answered_after(narrow, "/v1/check")
        began = time.monotonic()
        assert narrow.eventually(lambda: held(narrow.port, readers) == 0, 90)
        measured["all cut off after further, s"] = round(time.monotonic() - began, 1)


def held(port: int, callers: list[socket.socket]) -> int:
    """Of these callers' connections, those that the node has not closed. The kernel may still hold its answers."""
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    open_to = {
        int(fields[2][9:], 16) for fields in lines if int(fields[1][9:], 16) == port and fields[3] == ESTABLISHED
    }
    return sum(caller.getsockname()[1] in open_to for caller in callers)


def _reader(port: int) -> socket.socket:
    reader = socket.socket()
    reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    reader.settimeout(30)
    reader.connect(("127.0.0.1", port))
    reader.sendall(BUNDLE * 8)
    reader.setblocking(False)
    return reader


def _sip(readers: list[socket.socket], over: threading.Event) -> None:
    while not over.wait(1):
        for reader in readers:
            with contextlib.suppress(OSError):
                reader.recv(1)


def _answered_after(node: Node, path: str) -> float:
    began = time.monotonic()
    sent = {"json": {"client_id": "honest"}} if path == "/v1/check" else {}
    answer = requests.request("POST" if sent else "GET", node.url + path, timeout=60, **sent)
    assert answer.status_code == 200
    return round(time.monotonic() - began, 1)


@pytest.mark.attack(
    9, f"the workers stand still for {STALL_SECONDS} s while honest requests arrive whole or in two parts"
)
def test_a_stall_costs_honest_requests_nothing(attacked: Node, measured: Figures) -> None:
    """A request that lies in the socket when the node goes on is answered, not refused for being late."""
    check, batch = (post(path, body) for path, body in HONEST.items())
    cut = [(check, 20), (check, len(check) - 5), (batch, len(batch) - 9), (check, 0), (batch, 0)] * 4
    with contextlib.ExitStack() as stack:
        callers = [stack.enter_context(socket.create_connection(("127.0.0.1", attacked.port), 60)) for _ in cut]
        for caller, (sent, part) in zip(callers, cut, strict=True):
            caller.sendall(sent[:part])
        for _ in range(20):  # by then every worker has read what was sent before
            assert attacked.check("honest", cost=0)
        workers = attacked.workers
        for pid in workers:
            os.kill(pid, signal.SIGSTOP)
        try:
            for caller, (sent, part) in zip(callers, cut, strict=True):
                caller.sendall(sent[part:])
            time.sleep(STALL_SECONDS)  # of the node, whose clocks go on
        finally:
            for pid in workers:
                os.kill(pid, signal.SIGCONT)
        answers = [Answers(caller).next().status for caller in callers]
    measured["requests"], measured["refused"] = len(answers), sum(status != 200 for status in answers)
    assert set(answers) == {200}
