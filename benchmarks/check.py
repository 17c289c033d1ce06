"""CPU per check of one worker and of Redis: `python -m benchmarks.check` (Linux, two processors).

One gunicorn worker runs alone on one processor; Valkey and the load (32 connections, each sending as soon as all have
their answers) share another. CPU is what the kernel accounts to the two processes (/proc/PID/schedstat), which a busy
machine disturbs far less than requests per second. The variants take turns, and the medians of their rounds are saved
in benchmarks/results/check.json.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import redis

from app.embedded import Postgres, Valkey, runtime_directory
from benchmarks.machine import described
from tests.conftest import flask
from tests.support.burst import Burst
from tests.support.node import Node

RESULT = Path(__file__).parent / "results" / "check.json"
WORKER_CPU, LOAD_CPU = 0, 1
CONNECTIONS, CLIENTS, BATCH = 32, 20_000, 100
ROUNDS, SECONDS = 5, 2.0
AMPLE, NONE_LEFT = {"DEFAULT_RATE": 1_000_000}, {"DEFAULT_RATE": 1, "DEFAULT_WINDOW": 31_536_000}

dice = random.Random(1)


def one() -> tuple[str, bytes, int]:
    return "/v1/check", b'{"client_id":"user_%d","limit_key":"login"}' % dice.randrange(CLIENTS), 1


def batch() -> tuple[str, bytes, int]:
    checks = b",".join(one()[1] for _ in range(BATCH))
    return "/v1/check/batch", b'{"checks":[%b]}' % checks, BATCH


# name -> (settings of the node, what is sent)
VARIANTS: dict[str, tuple[dict[str, Any], Callable[[], tuple[str, bytes, int]]]] = {
    "fast lane": (AMPLE, one),
    "fast lane off": (AMPLE | {"FAST_LANE": "false"}, one),
    "denied": (NONE_LEFT, lambda: ("/v1/check", b'{"client_id":"user_%d"}' % dice.randrange(500), 1)),
    "batch of 100": (AMPLE, batch),
}


def main() -> None:
    with contextlib.ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        sockets = stack.enter_context(runtime_directory())
        valkey = stack.enter_context(Valkey(data_dir=home / "valkey", socket_dir=sockets, durable=False))
        postgres = stack.enter_context(Postgres(data_dir=home / "postgres", socket_dir=sockets, durable=False))
        flask("db", "upgrade", database_url=postgres.url)
        os.sched_setaffinity(valkey.pid, {LOAD_CPU})
        os.sched_setaffinity(0, {LOAD_CPU})
        nodes = {name: stack.enter_context(_node(name, valkey, postgres, home)) for name in VARIANTS}
        rounds: dict[str, list[dict[str, float]]] = {name: [] for name in VARIANTS}
        for number in range(ROUNDS + 1):  # the first one warms up
            for name, node in nodes.items():
                measured = _measure(node, valkey, VARIANTS[name][1])
                sys.stdout.write(f"round {number} {name:14} {measured}\n")
                rounds[name] += [measured] if number else []
        server = redis.Redis.from_url(valkey.url).info("server")["valkey_version"]
        result = described("python -m benchmarks.check", server) | {
            "variants": {name: _medians(found) for name, found in rounds.items()}
        }
    RESULT.write_text(json.dumps(result, indent=2) + "\n")


@contextlib.contextmanager
def _node(name: str, valkey: Valkey, postgres: Postgres, home: Path) -> Iterator[Node]:
    data_dir = home / name
    data_dir.mkdir()
    settings = {"WEB_CONCURRENCY": 1, "REDIS_TIMEOUT_MS": 2000, "LOG_LEVEL": "WARNING"} | VARIANTS[name][0]
    with Node(redis_url=valkey.url, database_url=postgres.url, data_dir=data_dir, **settings) as node:
        os.sched_setaffinity(_worker(node), {WORKER_CPU})
        yield node


def _measure(node: Node, valkey: Valkey, content: Callable[[], tuple[str, bytes, int]]) -> dict[str, float]:
    """Microseconds of CPU per check of the worker and of Redis, and checks a second, over SECONDS of load."""
    pids = (_worker(node), valkey.pid)
    with Burst(node.port, CONNECTIONS) as load:
        before, started, checks = [_cpu_ns(pid) for pid in pids], time.monotonic(), 0
        while time.monotonic() < started + SECONDS:
            sent = [content() for _ in range(CONNECTIONS)]
            load.post([(path, body) for path, body, _ in sent])
            checks += sum(count for _, _, count in sent)
        elapsed = time.monotonic() - started
        worker, server = ((_cpu_ns(pid) - was) / checks / 1000 for pid, was in zip(pids, before, strict=True))
    return {"worker_us": round(worker, 1), "redis_us": round(server, 1), "checks_per_second": round(checks / elapsed)}


def _medians(rounds: list[dict[str, float]]) -> dict[str, float]:
    return {figure: statistics.median(measured[figure] for measured in rounds) for figure in rounds[0]}


def _worker(node: Node) -> int:
    return int(Path(f"/proc/{node.pid}/task/{node.pid}/children").read_text().split()[0])


def _cpu_ns(pid: int) -> int:
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0])


if __name__ == "__main__":
    main()
