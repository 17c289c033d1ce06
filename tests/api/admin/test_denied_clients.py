"""GET /v1/admin/limited: what operators get."""

from __future__ import annotations

import time
from types import SimpleNamespace

from app.limiter.denied_clients import DeniedClients
from app.limiter.keys import Keyspace
from app.limiter.redis.store import RedisStore
from app.rules.rule import Limit, Rule, default_rule
from app.rules.rule_book import RuleBook, Snapshot
from tests.support.node import Node


def test_the_clients_denied_most_come_first(node: Node, store: RedisStore, keyspace: Keyspace, client: str) -> None:
    """Counted here by a worker of another node, which shares Redis and, through the database, the secret."""
    default = default_rule(100, 60)
    book = RuleBook(Snapshot(1, keyspace.secret, ()), default=default, algorithm="gcra")
    other = DeniedClients(store=store, rules=SimpleNamespace(book=book), clock=time.time)
    for _ in range(20_000):
        other.denied(1, f"{client}-more", Rule(id=12, client_id="*", limits=(Limit(5, 60),)))
    for _ in range(10_000):
        other.denied(1, f"{client}-less", default)
        other.denied(2, f"{client}-of-another-tenant", default)
    other.flush()
    answer = node.request("GET", "/v1/admin/limited")
    assert answer.status_code == 200
    assert node.request("GET", "/v1/admin/limited", params={"page_size": 1}).json() == answer.json()[:1]
    less = node.request("GET", "/v1/admin/limited", params={"contains": f"{client[2:]}-less"})
    assert [entry["client_id"] for entry in less.json()] == [f"{client}-less"]
    ours = [entry for entry in answer.json() if entry["client_id"].startswith(client)]
    assert ours == [
        {"client_id": f"{client}-more", "rule_id": 12, "denied": 20_000},
        {"client_id": f"{client}-less", "rule_id": "default", "denied": 10_000},
    ]


def test_denied_checks_are_counted_by_whichever_worker_denies_them(node: Node, client: str) -> None:
    node.put_rule(client_id=client, rate=1, window=3600)
    denied = sum(not node.check(client)["allowed"] for _ in range(301))
    assert denied == 300

    def counted() -> int:
        entries = node.request("GET", "/v1/admin/limited").json()
        return sum(entry["denied"] for entry in entries if entry["client_id"] == client)

    assert node.eventually(lambda: counted() == 300)
