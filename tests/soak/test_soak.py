"""Two nodes behind Traefik at half load while everything else happens to them: `make soak MINUTES=30`.

Every ROUND_SECONDS the callers pause, the counters are compared with what the callers were told, and what must not grow
is noted. The figures are saved in benchmarks/results/soak.json.
"""

from __future__ import annotations

import json
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psycopg2
import pytest
import redis

from benchmarks.machine import described
from devstack import Postgres, Valkey
from tests.conftest import flask
from tests.soak.callers import ALGORITHMS, LIMIT, WINDOW, Callers, Ledger
from tests.soak.faults import Happenings
from tests.support.matrix import RESULTS
from tests.support.node import Node
from tests.support.processes import resident_bytes
from tests.support.traefik import Traefik

MINUTES = float(os.environ.get("SOAK_MINUTES", "0"))
SEED = 17
WIDTH = 8
CLIENTS = 40
ROUND_SECONDS = 180 if MINUTES else 3
SETTLED_SECONDS = 60
# Beyond what the first round had: memory of a worker (pages of metrics and caches that fill), and what has no reason.
MOST_GROWTH = {"MiB": 64, "descriptors": 40, "threads": 8, "series": 200}


class Deployment:
    """Two nodes of two workers, which lose nothing that Redis or PostgreSQL acknowledged."""

    def __init__(self, stack: ExitStack, home: Path, sockets: Path) -> None:
        own = sockets / secrets.token_hex(4)
        own.mkdir()
        self.redis = stack.enter_context(
            Valkey(data_dir=home / "redis", socket_dir=own, options={"appendfsync": "always"})
        )
        self.postgres = stack.enter_context(Postgres(data_dir=home / "postgres", socket_dir=own))
        flask("db", "upgrade", database_url=self.postgres.url)
        settings = {"FAIL_MODE": "closed", "NODES": 2, "BREAKER_RESET_SECONDS": 1, "DRAIN_SECONDS": 3}
        self.nodes = [
            stack.enter_context(
                Node(redis_url=self.redis.url, database_url=self.postgres.url, data_dir=place, **settings)
            )
            for place in (home / "node-1", home / "node-2")
            if not place.mkdir()
        ]
        self.traefik = stack.enter_context(Traefik(home, [node.port for node in self.nodes]))

    def sizes(self) -> dict[str, int]:
        """What must not grow for ever; the largest of any worker or node, and of the stores."""
        workers = [pid for node in self.nodes for pid in node.workers]
        with redis.Redis.from_url(self.redis.url) as client:
            keys = client.dbsize()
        connection = psycopg2.connect(self.postgres.url)
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_database_size(current_database())")
            database = cursor.fetchone()
        connection.close()
        series = [node.request("GET", "/metrics", key=None).text.count("\n") for node in self.nodes]
        return {
            "MiB": max(map(resident_bytes, workers)) >> 20,
            "descriptors": max(len(os.listdir(f"/proc/{pid}/fd")) for pid in workers),
            "threads": max(len(os.listdir(f"/proc/{pid}/task")) for pid in workers),
            "series": max(series),
            "keys in Redis": keys,
            "database, MiB": database[0] >> 20 if database else 0,
        }

    def settled(self) -> bool:
        """Whether Redis decides again on every worker, and all rules are current."""

        def well(node: Node) -> bool:
            health = [node.request("GET", "/health", key=None) for _ in range(8)]
            return all(answer.ok and answer.json()["status"] == "healthy" for answer in health)

        return all(node.eventually(lambda node=node: well(node), SETTLED_SECONDS) for node in self.nodes)


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory, sockets: Path) -> Iterator[Deployment]:
    with ExitStack() as stack:
        yield Deployment(stack, tmp_path_factory.mktemp("soak"), sockets)


def soaked(deployment: Deployment, number: int) -> dict[str, Any]:
    """One round: what came of it."""
    nodes = deployment.nodes
    ledger = Ledger([f"soak {number} {client}" for client in range(CLIENTS)])
    rules = [
        {"client_id": name, "rate": LIMIT, "window": WINDOW, "algorithm": ALGORITHMS[place % len(ALGORITHMS)]}
        for place, name in enumerate(ledger.clients)
    ]
    nodes[0].request("POST", "/v1/admin/import", json={"rules": rules}).raise_for_status()
    for node in nodes:
        node.await_rules(of=nodes[0])
    with (
        Callers(deployment.traefik.port, ledger, width=WIDTH, seed=SEED * 1000 + number * WIDTH),
        Happenings(nodes, deployment.redis, deployment.postgres, seed=SEED + number) as happenings,
    ):
        time.sleep(ROUND_SECONDS)
    if not deployment.settled():
        ledger.wrong.append(f"not healthy {SETTLED_SECONDS} s after the last fault: {nodes[0].log.read_text()[-2000:]}")
    for name in ledger.clients:
        decision = nodes[0].check(name, cost=0)
        ledger.judge(name, decision["limit"], decision["remaining"])
    sizes = deployment.sizes()
    stored = nodes[0].request("GET", "/v1/admin/rules", params={"page_size": 500}).json()
    for rule in stored:
        nodes[0].request("DELETE", f"/v1/admin/rules/{rule['id']}").raise_for_status()
    return {
        "decided": ledger.decided,
        "without a decision": ledger.undecided,
        "wrong": ledger.wrong,
        "operators' work that failed": happenings.failed,
        "happened": dict(happenings.counts),
        "sizes": sizes,
    }


def test_nothing_is_decided_wrongly_and_nothing_grows(deployment: Deployment) -> None:
    """Units admitted are those charged, but for requests that got no decision; no limit is exceeded."""
    rounds, end = [], time.monotonic() + 60 * MINUTES
    while not rounds or time.monotonic() < end:
        rounds.append(soaked(deployment, len(rounds)))
        print(f"\n{len(rounds)}: {json.dumps(rounds[-1])}", flush=True)
    if MINUTES:
        version = redis.Redis.from_url(deployment.redis.url).info("server")["valkey_version"]
        result = described(f"make soak MINUTES={MINUTES:g}", version) | {"rounds": rounds}
        (RESULTS / "soak.json").write_text(json.dumps(result, indent=2) + "\n")
    assert [wrong for found in rounds for wrong in found["wrong"]] == []
    assert [failed for found in rounds for failed in found["operators' work that failed"]] == []
    first, last = rounds[0]["sizes"], rounds[-1]["sizes"]
    assert {
        name: last[name] - first[name] for name in MOST_GROWTH if last[name] - first[name] > MOST_GROWTH[name]
    } == {}
    assert sum(found["decided"] for found in rounds) > 100 * ROUND_SECONDS // 10
