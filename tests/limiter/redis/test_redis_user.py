"""The Redis user that docs/operations.md describes may do what the service does, and nothing else."""

from __future__ import annotations

import re
from uuid import uuid4

import pytest
import redis

from app.rules.rule import ALGORITHMS
from tests.support.node import ROOT, Node

# Asked once on each new connection, which may have been made before; the service goes on without an answer.
AT_CONNECTING = {"client|setinfo"}


@pytest.fixture(scope="module")
def granted() -> set[str]:
    [rules] = re.findall(r"^ACL SETUSER ratelimiter (.*)$", (ROOT / "docs/operations.md").read_text(), re.MULTILINE)
    assert "~rl:*" in rules.split()
    return {word[1:] for word in rules.split() if word.startswith("+")}


def everything(node: Node) -> None:
    """Whatever the service asks Redis."""
    clients = [f"acl-{uuid4().hex[:8]}" for _ in (*ALGORITHMS, "several")]
    for client_id, algorithm in zip(clients, ALGORITHMS, strict=False):
        rule = {"client_id": client_id, "rate": 3, "window": 3600, "algorithm": algorithm}
        node.request("POST", "/v1/admin/rules", json=rule)
    several = [{"rate": 3, "window": 3600, "algorithm": algorithm} for algorithm in ALGORITHMS]
    node.put_rule(client_id=clients[-1], limits=several)
    for client_id in clients:
        for cost in (0, 1, 1, 1, 1, 1):
            assert not node.check(client_id, cost=cost)["degraded"]
        assert not node.check(client_id)["allowed"]
        node.put_rule(client_id=client_id, rate=1, window=3600, algorithm="gcra")
        node.check(client_id)
    node.put_rule(client_id=clients[1], rate=100, window=1, algorithm="sliding_window")
    for _ in range(110):  # what has left the window is trimmed at the next charge
        assert node.eventually(lambda: node.check(clients[1])["allowed"])
    check = {"client_id": clients[0], "request_id": "once"}
    answer = node.request("POST", "/v1/check/batch", key=None, json={"checks": [check, check]}).json()
    assert not any(result["degraded"] for result in answer["results"])
    node.put_rule(client_id="acl-leased", limits=several)
    granted = node.request("POST", "/v1/leases", json={"client_id": "acl-leased", "permits": 1}).json()["lease_id"]
    assert node.request("POST", f"/v1/leases/{granted}/return", json={"unused": 1}).json()["returned"] == 1
    assert node.request("GET", f"/v1/admin/counters?client_id={clients[0]}").status_code == 200
    assert node.request("POST", "/v1/admin/counters/reset", json={"client_id": clients[0]}).status_code == 204
    assert node.request("GET", "/v1/admin/limited").json()
    assert node.request("GET", "/health", key=None).json()["redis_available"]
    tenant = node.request("POST", "/v1/admin/tenants", json={"name": clients[0]}).json()
    node.request("DELETE", f"/v1/admin/tenants/{tenant['id']}")
    assert node.eventually(lambda: f"tenant {tenant['id']} was deleted: 0 keys" in node.log.read_text(), 30)


def test_it_may_do_what_the_service_does_and_no_more(node: Node, redis_client: redis.Redis, granted: set[str]) -> None:
    redis_client.acl_log_reset()
    redis_client.config_resetstat()
    redis_client.script_flush()  # so that the service loads its scripts again
    everything(node)
    assert redis_client.acl_log() == []
    used = {name.removeprefix("cmdstat_") for name in redis_client.info("commandstats")}
    assert granted - used <= AT_CONNECTING


@pytest.mark.parametrize(
    "command",
    ["KEYS *", "DBSIZE", "FLUSHALL", "GET other", "DEL rl:x", "CONFIG GET *", "SCRIPT FLUSH", "EVAL return 0"],
)
def test_everything_else_is_refused(limiter_redis_url: str, command: str) -> None:
    with redis.Redis.from_url(limiter_redis_url) as client, pytest.raises(redis.exceptions.NoPermissionError):
        client.execute_command(*command.split())
