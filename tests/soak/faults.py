"""What happens to a deployment in a bad half hour: faults, edits, imports, scrapes, restarts, one after the other."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections import Counter
from contextlib import suppress
from secrets import token_hex
from typing import Self

import requests

from devstack import Postgres, Valkey
from tests.faults.test_database import go_on, hang
from tests.support.node import Node

RULES_OF_AN_IMPORT = 500
PAUSE_SECONDS = (0.5, 4.0)


class Happenings:
    """Chosen at random from entry to exit; `counts` says how often each came. `failed`: what an operator could not do
    although nothing was broken at that moment."""

    def __init__(self, nodes: list[Node], redis: Valkey, postgres: Postgres, *, seed: int) -> None:
        self._nodes, self._redis, self._postgres = nodes, redis, postgres
        self._dice = random.Random(seed)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.counts: Counter[str] = Counter()
        self.failed: list[str] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(120)

    def _run(self) -> None:
        doings = [getattr(self, name) for name in vars(Happenings) if name.startswith("do_")]
        while not self._stop.wait(self._dice.uniform(*PAUSE_SECONDS)):
            doing = self._dice.choice(doings)
            try:
                doing()
            except Exception as error:  # told at the end: a soak goes on
                self.failed.append(f"{doing.__name__}: {error!r}"[:500])
            self.counts[doing.__name__.removeprefix("do_")] += 1

    @property
    def _node(self) -> Node:
        return self._dice.choice(self._nodes)

    def _ask(self, method: str, path: str, node: Node | None = None, **content: object) -> requests.Response:
        """Raises where the answer is an error: the database is there, so there is no reason for one."""
        answer = (node or self._node).request(method, path, **content)
        answer.raise_for_status()
        return answer

    def do_redis_hangs(self) -> None:
        os.kill(self._redis.pid, signal.SIGSTOP)
        time.sleep(self._dice.uniform(0.02, 2))
        os.kill(self._redis.pid, signal.SIGCONT)

    def do_redis_is_killed(self) -> None:
        self._redis.kill()
        time.sleep(self._dice.uniform(0, 1))
        self._redis.start()

    def do_database_hangs(self) -> None:
        hang(self._postgres)
        time.sleep(self._dice.uniform(0.1, 3))
        go_on(self._postgres)

    def do_database_restarts(self) -> None:
        self._postgres.stop()
        self._postgres.start()

    def do_node_restarts(self) -> None:
        node = self._node
        node.stop(signal.SIGTERM)
        node.start()

    def do_worker_is_killed(self) -> None:
        with suppress(ProcessLookupError):
            os.kill(self._dice.choice(self._node.workers), signal.SIGKILL)

    def do_worker_stands_still(self) -> None:
        pid = self._dice.choice(self._node.workers)
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
            time.sleep(self._dice.uniform(0.05, 1))
            os.kill(pid, signal.SIGCONT)

    def do_scrape(self) -> None:
        for node in self._nodes:
            node.request("GET", "/metrics", key=None).raise_for_status()

    def do_edit(self) -> None:
        rule = self._ask("POST", "/v1/admin/rules", json={"client_id": "edited", "rate": 5, "window": 60}).json()
        path = f"/v1/admin/rules/{rule['id']}"
        self._ask("PATCH", path, json={"rate": self._dice.randint(1, 9)})
        self._ask("POST", f"{path}/rollback", json={"version": 1})
        self._ask("DELETE", path)

    def do_import(self) -> None:
        """Of a tenant of its own, which goes with all of it; on one node, since others hear of a key a little later."""
        node, name = self._node, f"imported-{token_hex(4)}"
        tenant = self._ask("POST", "/v1/admin/tenants", node=node, json={"name": name}).json()
        key = {"tenant": name, "name": "soak", "scopes": ["rules:write", "rules:read"]}
        made = self._ask("POST", "/v1/admin/api-keys", node=node, json=key).json()["key"]
        rules = [{"client_id": f"c{number}", "rate": 1, "window": 60} for number in range(RULES_OF_AN_IMPORT)]
        node.await_rules()
        self._ask("POST", "/v1/admin/import", node=node, key=made, json={"rules": rules})
        self._ask("GET", "/v1/admin/export", node=node, key=made)
        self._ask("DELETE", f"/v1/admin/tenants/{tenant['id']}")

    def do_look_around(self) -> None:
        """Asks again, as an operator would: two of these need Redis, whose breaker may still be open."""
        node = self._node
        for path in ("explain?client_id=edited", "counters?client_id=edited", "limited", "audit", "rules"):
            url = f"/v1/admin/{path}"
            assert node.eventually(lambda url=url: node.request("GET", url).ok), url
