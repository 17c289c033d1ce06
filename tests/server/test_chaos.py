"""Chaos through real HTTP: Redis killed, paused and stopped, clients gone at any moment. Every answer is its asker's.

Each client has a rule of its own, whose id and limit name it in the answer; each request has a correlation id of its
own. A fixed window hands out each `remaining` once, so an answer given twice, or to another, shows there too.
For a long run: CHAOS_CHECKS=1000000 make test ARGS="-s tests/server/test_chaos.py"
"""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import gevent
import pytest
import redis
from gevent.socket import create_connection

from devstack import Valkey, runtime_directory
from tests.api.raw_http import post
from tests.support.answers import Answers, Received
from tests.support.node import Node

CHECKS = int(os.environ.get("CHAOS_CHECKS", "10000"))
SEED = 20261125
CLIENTS, CONNECTIONS, MAX_PIPELINED = 24, 48, 8
FAIL_MODES = ("open", "closed", "local")
WINDOW = 3600  # outlasts the run
RESET = struct.pack("ii", 1, 0)  # SO_LINGER: a close resets the connection


class Client(NamedTuple):
    name: str
    rule_id: str
    limit: int
    fail_mode: str


class Asked(NamedTuple):
    """One request: a check, or a batch of several."""

    correlation_id: bytes
    clients: list[Client]
    sent: bytes


class Tally:
    """What came of the requests. `remaining` is by client, of the checks that Redis admitted."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.remaining: dict[Client, list[int]] = {}

    def judge(self, asked: Asked, received: Received) -> None:
        """Take an answer that came where the one to `asked` was due."""
        answer = json.loads(received.body)
        parts = answer.get("results", [answer])
        self.counts["answered"] += len(parts)
        if (
            received.correlation_id != asked.correlation_id
            or received.status not in (200, 503)
            or len(parts) != len(asked.clients)
        ):
            self.wrong.append(f"{received} to {asked}")
            return
        for client, part in zip(asked.clients, parts, strict=True):
            self._judge_check(client, part.get("error", part))

    def _judge_check(self, client: Client, part: dict[str, Any]) -> None:
        own = part.get("rule_id") == client.rule_id
        if "allowed" not in part:
            kind, right = "refused", part["status"] == 503 and client.fail_mode == "closed"
        elif part["degraded"]:
            kind, right = "degraded", own and client.fail_mode != "closed" and part["limit"] <= client.limit
        else:
            kind, right = "undegraded", own and part["limit"] == client.limit
            if part["allowed"]:
                self.remaining.setdefault(client, []).append(part["remaining"])
        self.counts[kind] += 1
        if not right:
            self.wrong.append(f"{part} to {client}")


class Caller:
    """Opens one connection after the other, and asks on each for a while."""

    def __init__(self, number: int, port: int, clients: list[Client], tally: Tally) -> None:
        self._number = number
        self._port = port
        self._clients = clients
        self._tally = tally
        self._dice = random.Random(SEED + number)
        self._asked = 0

    def run(self) -> None:
        while self._tally.counts["asked"] < CHECKS:
            with create_connection(("127.0.0.1", self._port), timeout=60) as connection:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                answers = Answers(connection)
                for _ in range(self._dice.randint(1, 60)):
                    if not self._turn(connection, answers):
                        break
                else:
                    if extra := answers.rest():
                        self._tally.wrong.append(f"an answer too many: {extra!r}")

    def _turn(self, connection: Any, answers: Answers) -> bool:
        """Send some requests and take their answers; False where this side gave the connection up instead."""
        dice = self._dice
        asked = [self._ask() for _ in range(dice.choice((1, 1, 1, 2, MAX_PIPELINED)))]
        data = b"".join(one.sent for one in asked)
        if dice.random() < 0.02:
            self._leave(connection, data[: dice.randint(1, len(data))])
            self._tally.counts["given up"] += sum(len(one.clients) for one in asked)
            return False
        cuts = sorted(dice.randrange(len(data)) for _ in range(dice.randint(1, 3))) if dice.random() < 0.05 else []
        for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
            connection.sendall(data[start:end])
            gevent.sleep(0)
        for one in asked:
            try:
                self._tally.judge(one, answers.next())
            except OSError as error:
                self._tally.wrong.append(f"no answer to {one.correlation_id!r}: {error}")
                return False
        return True

    def _leave(self, connection: Any, data: bytes) -> None:
        connection.sendall(data)
        gevent.sleep(self._dice.random() / 200)  # now and then its checks are on their way to Redis
        if self._dice.random() < 0.5:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)

    def _ask(self) -> Asked:
        self._asked += 1
        correlation_id = f"{self._number}.{self._asked}".encode()
        clients = self._dice.choices(self._clients, k=3 if self._dice.random() < 0.05 else 1)
        self._tally.counts["asked"] += len(clients)
        checks = [{"client_id": client.name} for client in clients]
        path, body = ("/v1/check", checks[0]) if len(checks) == 1 else ("/v1/check/batch", {"checks": checks})
        header = b"X-Correlation-ID: %b\r\n" % correlation_id
        return Asked(correlation_id, clients, post(path, json.dumps(body).encode(), header))


def trouble(valkey: Valkey, over: threading.Event) -> None:
    """Until it is over: end Redis's connections, pause it, stop its process, for less and for more than the timeout."""
    dice = random.Random(SEED)
    with redis.Redis.from_url(valkey.url) as admin:
        while not over.wait(dice.random() / 5):
            kind = dice.randrange(3)
            if kind == 0:
                admin.client_kill_filter(_type="normal")
            elif kind == 1:
                admin.client_pause(dice.randint(1, 100))
            else:
                os.kill(valkey.pid, signal.SIGSTOP)
                over.wait(dice.random() / 10)
                os.kill(valkey.pid, signal.SIGCONT)


@pytest.fixture
def chaotic_valkey(tmp_path: Path) -> Iterator[Valkey]:
    """One of its own: what is killed here would be missed elsewhere."""
    with (
        runtime_directory() as sockets,
        Valkey(data_dir=tmp_path / "valkey", socket_dir=sockets, durable=False) as server,
    ):
        yield server


def test_every_answer_reaches_whom_it_is_for(
    chaotic_valkey: Valkey, new_database: Callable[[str], str], tmp_path: Path
) -> None:
    database_url = new_database("chaos")
    settings = {"BREAKER_FAILURES": 20, "BREAKER_RESET_SECONDS": 1, "LOG_LEVEL": "WARNING"}
    with Node(redis_url=chaotic_valkey.url, database_url=database_url, data_dir=tmp_path, **settings) as node:
        clients = [client(node, number) for number in range(CLIENTS)]
        node.await_rules()
        tally, over = Tally(), threading.Event()
        callers = [gevent.spawn(Caller(number, node.port, clients, tally).run) for number in range(CONNECTIONS)]
        troublemaker = threading.Thread(target=trouble, args=(chaotic_valkey, over))
        started = time.monotonic()
        troublemaker.start()
        try:
            gevent.joinall(callers, raise_error=True)
        finally:
            over.set()
            troublemaker.join()
        print(dict(tally.counts), f"wrong: {len(tally.wrong)}, {time.monotonic() - started:.0f} s")
        assert tally.wrong == []
        for who, remaining in tally.remaining.items():
            assert len(remaining) == len(set(remaining)), who
            assert set(remaining) <= set(range(who.limit)), who
        assert tally.counts["asked"] == tally.counts["answered"] + tally.counts["given up"]
        kinds = ("undegraded", "degraded", "refused", "given up")
        assert min(tally.counts[kind] for kind in kinds) > 0  # else there was no chaos
        assert node.eventually(lambda: not node.check("after the chaos")["degraded"])
        assert "Traceback" not in node.log.read_text()


def client(node: Node, number: int) -> Client:
    """A client with a rule of its own. Every other one asks for about twice as much as it may have."""
    name, fail_mode = f"chaos {number}", FAIL_MODES[number % 3]
    limit = (CHECKS // CLIENTS // 2 if number % 2 else CHECKS) + number
    rule = {"client_id": name, "rate": limit, "window": WINDOW, "algorithm": "fixed_window", "fail_mode": fail_mode}
    stored = node.request("POST", "/v1/admin/rules", json=rule).json()
    return Client(name, stored["id"], limit, fail_mode)
