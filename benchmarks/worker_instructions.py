"""Instructions of a worker per check, by path of the check: `python -m benchmarks.worker_instructions`.

valgrind counts those of a process that answers checks as a worker does, over one connection to Redis. The path runs
from the bytes of a body to those of an answer. One run has FEW checks of every kind, another MANY of one kind; the
difference belongs to that kind.

Python's hashes are fixed, so the same code takes nearly the same number each time. Saved in
benchmarks/results/worker_instructions.json.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from io import BytesIO
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import redis

from app.api.auth import Authenticator, Credentials
from app.api.check.encoding import Encoder
from app.api.check.handler import CheckHandler, Request
from app.api.check.wsgi_door import WsgiDoor
from app.api.forward_auth.authorizer import Authorizer
from app.api.forward_auth.refusal_log import LoggingClientIdentifier
from app.limiter.redis.store import RedisStore, connect
from app.rules.rule import Limit, Rule, default_rule
from app.rules.rule_book import RuleBook, Snapshot
from benchmarks.machine import described
from devstack import Valkey, runtime_directory
from tests.support.limiters import limiter_of

RESULT = Path(__file__).parent / "results" / "worker_instructions.json"
FEW, MANY = 64, 1_088
CLIENTS = 100
TOGETHER, OF_A_BATCH = 32, 64
REFERENCES = re.compile(r"I\s+refs:\s+([\d,]+)")
LIMITS = (Limit(9_000, 1_000_000, "token_bucket"),)
RULES = (
    Rule(id=1, client_id="*", limits=LIMITS),
    Rule(id=2, client_id="*", endpoint="denied", limits=(Limit(1, 1_000_000, "token_bucket"),)),
)
# A second rule decides every check as well, by one counter that all clients share; on `denied` it is full.
SHARED_LIMITS = (Limit(1_000_000_000, 9, "token_bucket"),)
LAYERS = (
    RULES[0],
    Rule(id=3, client_id="*", layer="all", shared=True, limits=SHARED_LIMITS),
    Rule(id=4, client_id="*", layer="all", shared=True, endpoint="denied", limits=(Limit(1, 1_000_000, "gcra"),)),
)


class Worker:
    """The deciding parts of a worker. Remembered denials never end: their clock advances a microsecond per reading."""

    def __init__(self, url: str, stored: tuple[Rule, ...] = RULES) -> None:
        book = RuleBook(Snapshot(1, b"secret", stored), default=default_rule(100, 60), algorithm="token_bucket")
        rules: Any = SimpleNamespace(book=book)
        store = RedisStore(connect(url, timeout_ms=60_000, clock=time.monotonic))
        authenticator = Authenticator(
            bootstrap_key=None, open_checks=True, rules=rules, used=lambda _: None, clock=time.time
        )
        encoder = Encoder("draft-10", 60)
        self.handler = CheckHandler(
            rules=rules,
            limiter=limiter_of(rules, store, clock=count(1_000, 1e-6).__next__),
            authenticator=authenticator,
            encoder=encoder,
            new_client_budget=None,
            tracing=None,
            clock=time.perf_counter,
        )
        identifier = LoggingClientIdentifier(by="address", trusted="", clock=time.monotonic)
        authorizer = Authorizer(
            authenticator=authenticator, identifier=identifier, rules=rules, tenant="default", encoder=encoder
        )
        self._door = WsgiDoor(self.handler, authorizer, _nowhere)

    def alone(self, checks: int) -> None:
        for number in range(checks):
            self._answer([number])

    def together(self, checks: int) -> None:
        for first in range(0, checks, TOGETHER):
            self._answer(range(first, first + TOGETHER))

    def denied(self, checks: int) -> None:
        for _ in range(checks):
            self._answer([0], "denied")

    def batch(self, checks: int) -> None:
        for first in range(0, checks, OF_A_BATCH):
            body = {"checks": [_check(number, "global") for number in range(first, first + OF_A_BATCH)]}
            reply = self.handler.handle_batch(Request(json.dumps(body).encode(), Credentials(), "-"))
            assert reply.status == 200, reply

    def wsgi(self, checks: int) -> None:
        for number in range(checks):
            body = json.dumps(_check(number, "global")).encode()
            self._ask(_environ("POST", "/v1/check", body), "200")

    def proxy(self, checks: int) -> None:
        for number in range(checks):
            self._ask(_environ("GET", "/v1/authorize", address=f"10.0.0.{number % CLIENTS}"), "200")

    def proxy_denied(self, checks: int) -> None:
        for _ in range(checks + 1):
            self._ask(_environ("GET", "/v1/authorize", query="limit_key=denied"), "")

    def _answer(self, numbers: Any, limit_key: str = "global") -> None:
        bodies = [json.dumps(_check(number, limit_key)).encode() for number in numbers]
        replies = self.handler.handle_checks([Request(body, Credentials(), "-") for body in bodies])
        assert all(reply.status == 200 for reply in replies), replies

    def _ask(self, environ: dict[str, Any], status: str) -> None:
        list(self._door(environ, lambda said, _: _expect(said, status)))


class LayeredWorker(Worker):
    """The same parts with rules in two layers, of which one has a shared counter."""

    def __init__(self, url: str) -> None:
        super().__init__(url, LAYERS)

    def layers_denied(self, checks: int) -> None:
        for number in range(checks):
            self._answer([number], "denied")

    layers = Worker.alone
    layers_together = Worker.together
    layers_batch = Worker.batch


PLAIN = ("alone", "together", "denied", "batch", "wsgi", "proxy", "proxy_denied")
LAYERED = ("layers", "layers_together", "layers_denied", "layers_batch")
KINDS = (*PLAIN, *LAYERED)


def _check(number: int, limit_key: str) -> dict[str, object]:
    return {"client_id": f"user_{number % CLIENTS}", "limit_key": limit_key, "cost": 1}


def _environ(method: str, path: str, body: bytes = b"", query: str = "", address: str = "10.1.1.1") -> dict[str, Any]:
    environ = {"REQUEST_METHOD": method, "PATH_INFO": path, "QUERY_STRING": query, "REMOTE_ADDR": address}
    length = {"CONTENT_LENGTH": str(len(body)), "CONTENT_TYPE": "application/json"} if body else {}
    return environ | length | {"wsgi.input": BytesIO(body)}


def _expect(said: str, status: str) -> None:
    assert said.startswith(status), said


def _nowhere(environ: dict[str, Any], *_: object) -> Any:
    raise AssertionError(environ)


def answer(url: str, many: str) -> None:
    """Run under valgrind: FEW checks of every kind, and MANY of one kind."""
    workers = {**dict.fromkeys(PLAIN, Worker(url)), **dict.fromkeys(LAYERED, LayeredWorker(url))}
    for kind in KINDS:
        ask: Callable[[int], None] = getattr(workers[kind], kind)
        ask(FEW)
        if kind == many:
            ask(MANY - FEW)


def main() -> None:
    if shutil.which("valgrind") is None:
        sys.exit("valgrind is missing: install the package valgrind (Debian and Ubuntu: apt-get install valgrind)")
    with runtime_directory() as sockets, Valkey(data_dir=sockets, socket_dir=sockets, durable=False) as valkey:
        before = _counted(valkey.url, "none")
        figures = {kind: round((_counted(valkey.url, kind) - before) / (MANY - FEW)) for kind in KINDS}
        version = str(redis.Redis.from_url(valkey.url).info("server")["valkey_version"])
    result = described("python -m benchmarks.worker_instructions", version) | {"instructions_per_check": figures}
    RESULT.write_text(json.dumps(result, indent=2) + "\n")
    sys.stdout.write(RESULT.read_text())


def _counted(url: str, many: str) -> int:
    redis.Redis.from_url(url).flushall()
    count = ["valgrind", "--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null"]
    command = [*count, sys.executable, "-m", "benchmarks.worker_instructions", url, many]
    environment = os.environ | {"PYTHONHASHSEED": "0"}
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False, env=environment)
    found = REFERENCES.search(done.stderr)
    if done.returncode or found is None:
        sys.exit(done.stderr)
    return int(found[1].replace(",", ""))


if __name__ == "__main__":
    if len(sys.argv) == 3:
        answer(*sys.argv[1:])
    else:
        main()
