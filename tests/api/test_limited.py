"""GET /v1/admin/limited: what operators get."""

from __future__ import annotations

import contextlib
import time
from types import SimpleNamespace

import psycopg2
import redis

from app.embedded import Valkey
from app.limiter.limited_clients import LimitedClients
from app.rules.rule import Limit, Rule, default_rule
from app.rules.rule_book import RuleBook, Snapshot
from tests.support.node import Node


def test_the_clients_denied_most_come_first(node: Node, valkey: Valkey, database_url: str, client: str) -> None:
    """Counted here by a worker of another node, which shares Redis and, through the database, the secret."""
    with contextlib.closing(psycopg2.connect(database_url)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT key_secret FROM rule_book")
        [secret] = cursor.fetchone()
    default = default_rule(100, 60)
    book = RuleBook(Snapshot(1, bytes.fromhex(secret), ()), default=default, algorithm="gcra")
    with contextlib.closing(redis.Redis.from_url(valkey.url)) as connected:
        other = LimitedClients(client=connected, rules=SimpleNamespace(book=book), clock=time.time)
        for _ in range(20_000):
            other.denied(1, f"{client}-more", Rule(id=12, client_id="*", limits=(Limit(5, 60),)))
        for _ in range(10_000):
            other.denied(1, f"{client}-less", default)
            other.denied(2, f"{client}-of-another-tenant", default)
        other.flush()
    answer = node.request("GET", "/v1/admin/limited")
    assert answer.status_code == 200
    ours = [entry for entry in answer.json() if entry["client_id"].startswith(client)]
    assert ours == [
        {"client_id": f"{client}-more", "rule_id": 12, "denied": 20_000},
        {"client_id": f"{client}-less", "rule_id": "default", "denied": 10_000},
    ]
