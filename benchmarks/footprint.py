"""Costs of checks besides the CPU of worker and Redis: bytes, and PostgreSQL's share: `python -m benchmarks.footprint`.

Starts a node of two workers with its servers and writes benchmarks/results/footprint.json. Bytes are counted by Redis
and at the caller's socket, without TCP and IP headers. PostgreSQL is observed for a while without checks, then as long
under load. A load that does not grow with checks is not their cost.
"""

from __future__ import annotations

import contextlib
import json
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg2
import redis

from benchmarks.machine import described
from benchmarks.processes import cpu_ns, workers
from benchmarks.traffic import Running, service
from tests.support.answers import Answers

RESULT = Path(__file__).parent / "results" / "footprint.json"
BODY = b'{"client_id":"user_%05d","limit_key":"login"}'
CLIENTS = 20_000
# In the form that an HTTP library sends.
CHECK = (
    b"POST /v1/check HTTP/1.1\r\nHost: limiter.internal:8000\r\nUser-Agent: python-requests/2.32.5\r\nAccept: */*\r\n"
    b"Accept-Encoding: gzip, deflate\r\nConnection: keep-alive\r\nContent-Type: application/json\r\n"
    b"Content-Length: %d\r\n\r\n" % len(BODY % 0)
) + BODY
# No client is denied, because a denial costs Redis nothing.
RULE = {"client_id": "*", "rate": 9_000, "window": 1_000_000}
WIDTH, SECONDS = 32, 20


def main() -> None:
    with service() as running, redis.Redis.from_url(running.valkey.url) as client, contextlib.ExitStack() as stack:
        running.node.put_rule(**RULE)
        idle = _watched(running, lambda: time.sleep(SECONDS))
        callers = [_Caller(stack, running.node.port) for _ in range(WIDTH)]
        _ask(callers, seconds=1)
        before = client.info("stats")
        received = sum(caller.received for caller in callers)
        checks: list[int] = []
        loaded = _watched(running, lambda: checks.append(_ask(callers, seconds=SECONDS)))
        after, received = client.info("stats"), sum(caller.received for caller in callers) - received
        result: dict[str, Any] = {
            **described("python -m benchmarks.footprint", client.info("server")["valkey_version"]),
            "checks": checks[0],
            "bytes_per_check": {
                "request": len(CHECK % 0),
                "answer": round(received / checks[0]),
                "to_redis": _each(before, after, "total_net_input_bytes", checks[0]),
                "from_redis": _each(before, after, "total_net_output_bytes", checks[0]),
            },
            "workers": len(workers(running.node.pid)),
            "postgresql": {"without_checks": idle, "under_load": loaded},
        }
    RESULT.write_text(json.dumps(result, indent=2) + "\n")
    sys.stdout.write(RESULT.read_text())


class _Caller:
    """A kept-alive connection, and the number of bytes received on it."""

    def __init__(self, stack: contextlib.ExitStack, port: int) -> None:
        self._socket = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=30))
        self._answers = Answers(self)
        self.received = 0

    def send(self, client: int) -> None:
        self._socket.sendall(CHECK % client)

    def wait(self) -> None:
        if b'"allowed":true' not in self._answers.next().body:
            raise SystemExit("a check was not admitted: the figures would be others")

    def recv(self, size: int) -> bytes:
        data = self._socket.recv(size)
        self.received += len(data)
        return data


def _ask(callers: list[_Caller], *, seconds: float) -> int:
    """Send checks on all connections at once, repeatedly; return the number of checks."""
    checks, deadline = 0, time.monotonic() + seconds
    while time.monotonic() < deadline:
        for place, caller in enumerate(callers):
            caller.send((checks + place) % CLIENTS)
        for caller in callers:
            caller.wait()
        checks += len(callers)
    return checks


def _each(before: dict[str, int], after: dict[str, int], name: str, checks: int) -> int:
    return round((after[name] - before[name]) / checks)


def _watched(running: Running, work: Any) -> dict[str, float]:
    """Return PostgreSQL's work per worker and second during `work`, and the number of connections per worker."""
    count = len(workers(running.node.pid))
    with _looking(running.postgres.url) as look:
        began, cpu, commits = time.monotonic(), _cpu_ns(running), look("SELECT pg_stat_get_db_xact_commit(oid)")
        work()
        seconds, used = time.monotonic() - began, _cpu_ns(running) - cpu
        done = look("SELECT pg_stat_get_db_xact_commit(oid)") - commits
        held = look("SELECT (SELECT count(*) FROM pg_stat_activity WHERE application_name = 'ratelimiter')")
    return {
        "transactions_per_worker_second": round(done / seconds / count, 2),
        "cpu_us_per_worker_second": round(used / 1000 / seconds / count),
        "connections_per_worker": held / count,
    }


def _cpu_ns(running: Running) -> int:
    master = running.postgres.pid
    return cpu_ns([master, *workers(master)])[0]


@contextlib.contextmanager
def _looking(url: str) -> Iterator[Any]:
    with contextlib.closing(psycopg2.connect(url)) as connection:
        connection.autocommit = True

        def look(expression: str) -> int:
            time.sleep(1.1)  # backends report their transactions once a second
            cursor = connection.cursor()
            cursor.execute(f"{expression} FROM pg_database WHERE datname = current_database()")
            [value] = cursor.fetchone()
            return int(value)

        yield look


if __name__ == "__main__":
    main()
