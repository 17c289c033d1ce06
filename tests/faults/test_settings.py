"""What is set up wrongly around nodes: a Redis user, a shared Redis, settings, a clock (rows 46 to 49)."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import psycopg2
import pytest
import redis

from app.limiter.denied_clients import DeniedClients
from app.limiter.redis.inspection import RedisInspection
from app.limiter.redis.store import RedisStore, connect
from app.limiter.redis.tenant_cleanup import TenantCleanup
from app.rules.rule_book import RulesetId
from tests.faults.conftest import StartNode, StartRedis
from tests.support.acl import PASSWORD, acl_command
from tests.support.faults import Figures
from tests.support.node import Node

HOUR = {"window": 3600, "fail_mode": "closed"}
TWO = [{"rate": 20, "window": 3600, "algorithm": algorithm} for algorithm in ("gcra", "sliding_window")]


def reasons(node: Node) -> str:
    health = node.request("GET", "/health", key=None).json()
    assert (health["status"] == "healthy") == (health["reasons"] == [])
    return "; ".join(health["reasons"])


@pytest.mark.fault(
    46, "the Redis user lacks PEXPIRE, gets it, and loses it again, at a limit of two algorithms; `closed`"
)
def test_a_user_without_a_command_decides_nothing(
    start_redis: StartRedis, start_node: StartNode, measured: Figures
) -> None:
    """Redis decides nothing and nothing is half charged; `/health`, the log and a metric name the command. Once it is
    granted Redis decides."""
    server = start_redis()
    with redis.Redis.from_url(server.url) as admin:
        admin.execute_command(*acl_command(), "-pexpire")
        node = start_node(server.url.replace("://", f"://ratelimiter:{PASSWORD}@", 1), WEB_CONCURRENCY=1)
        node.put_rule(client_id="two", limits=TWO, fail_mode="closed")
        refused = [node.request("POST", "/v1/check", key=None, json={"client_id": "two"}) for _ in range(10)]
        assert {answer.status_code for answer in refused} == {503}
        assert admin.dbsize() == 0
        assert "the Redis user may not run PEXPIRE" in reasons(node)
        assert node.metric('ratelimiter_degraded_reasons{reason="redis_permission"}') == 1
        assert node.log.read_text().count("the Redis user may not run PEXPIRE, so") == 1
        admin.execute_command("ACL", "SETUSER", "ratelimiter", "+pexpire")
        assert node.check("two")["remaining"] == 19
        assert node.eventually(lambda: reasons(node) == "")
        admin.execute_command("ACL", "SETUSER", "ratelimiter", "-pexpire")
        assert node.eventually(lambda: "PEXPIRE" in reasons(node))
        assert node.request("POST", "/v1/check", key=None, json={"client_id": "two"}).status_code == 503
        admin.execute_command("ACL", "SETUSER", "ratelimiter", "+pexpire")
        measured["charged while it was lacking"] = 19 - node.check("two", cost=0)["remaining"]
    assert measured["charged while it was lacking"] == 0


@pytest.mark.fault(47, "two deployments use one Redis; one deletes its tenant 2, the other has a tenant 2 as well")
def test_two_deployments_on_one_redis_do_not_hurt_each_other(
    start_redis: StartRedis,
    own_database: str,
    new_database: Callable[[str], str],
    tmp_path: Path,
    measured: Figures,
) -> None:
    """Counters, leases and request ids of the other stay, neither sees whom the other denied, and the log of the second
    says that it is not alone."""
    server = start_redis()
    with own_deployment(own_database, server.url) as (_, _, inspection):
        assert not inspection.look().shared
    theirs = {"redis_url": server.url, "database_url": new_database("another_deployment"), "data_dir": tmp_path}
    with Node(**theirs, REDIS_TIMEOUT_MS=5000, WEB_CONCURRENCY=1) as node:
        tenant = node.request("POST", "/v1/admin/tenants", json={"name": "second"}).json()
        keys = {"tenant": "second", "name": "all", "scopes": ["check", "rules:read", "rules:write"]}
        key = node.request("POST", "/v1/admin/api-keys", json=keys).json()["key"]
        node.put_rule(key=key, client_id="victim", rate=3, window=3600, algorithm="fixed_window")
        check = {"client_id": "victim", "request_id": "once"}
        answers = [node.request("POST", "/v1/check", key=key, json=check).json() for _ in range(2)]
        lease = node.request("POST", "/v1/leases", key=key, json={"client_id": "victim", "permits": 2}).json()
        assert allowed(node, key) is False
        assert node.eventually(lambda: denied(node, key) == ["victim"])
        assert node.eventually(lambda: "another deployment uses this Redis too" in node.log.read_text())
        deleted = deleted_by(own_database, server.url, tenant["id"])
        assert denied(node, key) == ["victim"]
        again = node.request("POST", "/v1/check", key=key, json=check).json()
        assert (again, answers[1]) == (answers[0], answers[0])
        assert allowed(node, key) is False
        returned = node.request("POST", f"/v1/leases/{lease['lease_id']}/return", key=key, json={"unused": 2}).json()
        assert returned["returned"] == 2
        measured["keys of the other deleted"] = deleted
    assert deleted == 0


@contextlib.contextmanager
def own_deployment(database_url: str, redis_url: str) -> Iterator[tuple[TenantCleanup, DeniedClients, RedisInspection]]:
    """Parts of a node on this database."""
    with contextlib.closing(psycopg2.connect(database_url)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT key_secret FROM rule_book")
        [secret] = cursor.fetchone()
    link = connect(redis_url, timeout_ms=20_000, clock=time.monotonic)
    store, rules = (
        RedisStore(link),
        SimpleNamespace(book=SimpleNamespace(ruleset_id=RulesetId(1, bytes.fromhex(secret)))),
    )
    limited = DeniedClients(store=store, rules=rules, clock=time.time)
    yield (
        TenantCleanup(store=store, rules=rules, denied_clients=limited, settle_seconds=0),
        limited,
        RedisInspection(store=store, check_store=store, single=True, rules=rules, clock=time.time),
    )
    link.drop()


def deleted_by(database_url: str, redis_url: str, tenant_id: int) -> int:
    """Keys that a deployment on this database deletes with its tenant of that number, which has none."""
    with own_deployment(database_url, redis_url) as (tenants, limited, _):
        assert limited.most(tenant_id) == []
        return tenants.forget(tenant_id)


def allowed(node: Node, key: str) -> bool:
    answer = node.request("POST", "/v1/check", key=key, json={"client_id": "victim"}).json()
    assert not answer["degraded"]
    return bool(answer["allowed"])


def denied(node: Node, key: str) -> list[str]:
    return [entry["client_id"] for entry in node.request("GET", "/v1/admin/limited", key=key).json()]


@pytest.mark.fault(48, "a node is started whose ALGORITHM, DEFAULT_RATE and NODES are not those of the other")
def test_nodes_with_different_settings_say_so(
    start_redis: StartRedis, start_node: StartNode, measured: Figures
) -> None:
    """Its `/health`, its log and a metric name the settings and the node. Settings that matter only without Redis are
    named too, but the node stays healthy.
    """
    server = start_redis()
    first = start_node(server.url, WEB_CONCURRENCY=1)
    cautious = start_node(server.url, WEB_CONCURRENCY=1, FAIL_MODE="closed")
    assert cautious.eventually(lambda: cautious.request("GET", "/health").json()["reasons"] != [])
    found = cautious.request("GET", "/health").json()
    assert (found["status"], "FAIL_MODE is open on" in found["reasons"][0]) == ("healthy", True)
    cautious.stop()
    other = f":{first.port}"
    second = start_node(server.url, WEB_CONCURRENCY=1, ALGORITHM="gcra", DEFAULT_RATE=7, NODES=2)
    assert second.eventually(lambda: reasons(second) != "")
    said = reasons(second)
    for setting in ("ALGORITHM is token_bucket on", "DEFAULT_RATE is 100 on", "NODES is 1 on", "gcra here", "2 here"):
        assert setting in said
    assert other in said
    assert "FAIL_MODE" not in said
    assert second.metric('ratelimiter_degraded_reasons{reason="settings"}') == 1
    log = second.log.read_text()
    assert all(sentence in log for sentence in second.request("GET", "/health").json()["reasons"])
    measured["settings named"] = said.count(" here")
    assert measured["settings named"] == 3


AHEAD = """
import time
real = time.time
time.time = lambda: real() + 3600
"""


@pytest.mark.fault(49, "the clock of a node is an hour ahead; a key ends in half an hour")
def test_a_node_whose_clock_is_ahead_takes_keys_that_are_good(
    start_redis: StartRedis, start_node: StartNode, tmp_path: Path, measured: Figures
) -> None:
    """It uses PostgreSQL's clock, so the key is good. `/health`, the log and a metric say that the clock is off."""
    (tmp_path / "sitecustomize.py").write_text(AHEAD)
    node = start_node(start_redis().url, WEB_CONCURRENCY=1, PYTHONPATH=tmp_path)
    assert node.eventually(lambda: "is 3600 s ahead of that of PostgreSQL" in reasons(node))
    assert node.metric('ratelimiter_degraded_reasons{reason="clock"}') == 1
    soon = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 1800))
    sent = {"tenant": "default", "name": "short", "scopes": ["check"], "expires_at": soon}
    made = node.request("POST", "/v1/admin/api-keys", json=sent)
    assert made.status_code == 201, made.text
    assert node.eventually(
        lambda: node.request("POST", "/v1/check", key=made.json()["key"], json={"client_id": "a"}).ok
    )
    assert "is 3600 s ahead of that of PostgreSQL" in node.log.read_text()
    measured["seconds ahead"] = 3600
