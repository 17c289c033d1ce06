"""Redis dies, hangs, forgets or is full (rows 2 to 4 and 12 to 14 of the fault matrix)."""

from __future__ import annotations

import os
import signal
import threading
import time
from typing import Any

import pytest
import redis

from devstack import Valkey
from tests.faults.conftest import StartNode, StartRedis
from tests.support.faults import ALL, Figures
from tests.support.load import Answer, Load, percentile
from tests.support.node import Node

LIMIT, WORKERS, WIDTH = 400, 2, 8
SHARE = LIMIT // WORKERS  # of one worker, where it enforces in memory
HOUR = {"rate": LIMIT, "window": 3600, "algorithm": "fixed_window", "fail_mode": "local"}
SOON = {"WEB_CONCURRENCY": WORKERS, "REDIS_TIMEOUT_MS": 500, "BREAKER_FAILURES": 3, "BREAKER_RESET_SECONDS": 1}
HUNG_SECONDS = 10 if ALL else 3


def admitted(answers: list[Answer], *, degraded: bool) -> int:
    decisions = [answer.json() for answer in answers]
    return sum(decision["allowed"] for decision in decisions if decision["degraded"] is degraded)


def kill_and_restart(server: Valkey, node: Node, client: str, measured: Figures) -> list[Answer]:
    """Under load: kill when about half of the limit is used, start again when all workers decide alone."""
    with Load([node], {"client_id": client}, width=WIDTH) as load:
        assert node.eventually(lambda: node.check(client, cost=0)["remaining"] <= LIMIT // 2)
        server.kill()
        killed = time.monotonic()
        assert node.eventually(lambda: any(answer.json()["degraded"] for answer in load.answers[-WIDTH:]))
        assert node.eventually(lambda: node.check(client)["allowed"] is False)  # the shares are used up
        server.start()
        started = time.monotonic()
        assert node.eventually(lambda: not node.check(client, cost=0)["degraded"])
        measured["recovered after, s"] = round(time.monotonic() - started, 2)
        assert node.eventually(lambda: not load.answers[-1].json()["degraded"])
        assert node.eventually(lambda: node.check(client)["remaining"] == 0)
    detected = next(answer for answer in load.answers if answer.began > killed and answer.json()["degraded"])
    measured["first degraded answer after, ms"] = round((detected.began + detected.seconds - killed) * 1e3)
    assert load.errors == []
    assert load.statuses == {200}
    return load.answers


@pytest.mark.fault(2, "Redis (append-only file) is killed under load and started again; `local`")
def test_a_crash_costs_at_most_the_local_share(
    start_redis: StartRedis, start_node: StartNode, measured: Figures
) -> None:
    """Redis admits at most the limit. The local shares of all workers together admit at most one further limit. No
    check fails.
    """
    server = start_redis(durable=True)
    node = start_node(server.url, **SOON)
    node.put_rule(client_id="crash", **HOUR)
    answers = kill_and_restart(server, node, "crash", measured)
    shared, local = (admitted(answers, degraded=degraded) for degraded in (False, True))
    measured["limit"], measured["admitted by Redis"], measured["by the workers meanwhile"] = LIMIT, shared, local
    assert shared <= LIMIT
    assert local <= WORKERS * SHARE


@pytest.mark.fault(3, "the same without any persistence")
def test_a_crash_that_forgets_everything_costs_at_most_one_more_limit(
    start_redis: StartRedis, start_node: StartNode, measured: Figures
) -> None:
    """The shared count begins anew: it admits twice the limit at most."""
    server = start_redis()
    node = start_node(server.url, **SOON)
    node.put_rule(client_id="amnesia", **HOUR)
    answers = kill_and_restart(server, node, "amnesia", measured)
    shared, local = (admitted(answers, degraded=degraded) for degraded in (False, True))
    measured["limit"], measured["admitted by Redis"], measured["by the workers meanwhile"] = LIMIT, shared, local
    assert shared <= 2 * LIMIT
    assert local <= WORKERS * SHARE


@pytest.mark.fault(4, f"Redis hangs (SIGSTOP) for {HUNG_SECONDS} s under load, timeout 50 ms")
def test_a_hung_redis_costs_its_timeout_and_then_nothing(
    start_redis: StartRedis, start_node: StartNode, measured: Figures
) -> None:
    """Checks wait for the timeout until the breaker opens; late commands charge once at most; it recovers by itself."""
    server = start_redis()
    node = start_node(server.url, **SOON | {"REDIS_TIMEOUT_MS": 50})
    rate = 1_000_000
    node.put_rule(client_id="hung", rate=rate, window=3600, algorithm="fixed_window")
    with Load([node], {"client_id": "hung"}, width=WIDTH) as load:
        assert node.eventually(lambda: len(load.answers) > 100)
        os.kill(server.pid, signal.SIGSTOP)
        stopped = time.monotonic()
        try:
            assert not threading.Event().wait(HUNG_SECONDS)
        finally:
            os.kill(server.pid, signal.SIGCONT)
        continued = time.monotonic()
        assert node.eventually(lambda: not any(answer.json()["degraded"] for answer in load.answers[-WIDTH:]))
        measured["recovered after, s"] = round(time.monotonic() - continued, 2)
    meanwhile = [answer for answer in load.answers if stopped < answer.began < continued]
    waited = [answer for answer in load.answers if answer.json()["degraded"] and answer.seconds >= 0.04]
    charged = rate - node.check("hung", cost=0)["remaining"]
    by_redis = admitted(load.answers, degraded=False)
    measured["checks meanwhile"], measured["failed"] = len(meanwhile), 0
    measured["p50 ms"], measured["p99 ms"] = (
        round(percentile([answer.seconds for answer in meanwhile], percent) * 1e3, 1) for percent in (50, 99)
    )
    measured["that waited"], measured["charged late"] = len(waited), charged - by_redis
    measured["slowest ms"] = round(max(answer.seconds for answer in meanwhile) * 1e3, 1)
    assert load.errors == []
    assert load.statuses == {200}
    assert by_redis <= charged <= by_redis + len(waited)
    assert measured["p50 ms"] < 1000


@pytest.mark.fault(12, "SCRIPT FLUSH every 100 ms under load")
def test_lost_scripts_are_loaded_again(start_redis: StartRedis, start_node: StartNode, measured: Figures) -> None:
    """No check fails or degrades, and the count stays exact."""
    server = start_redis()
    node = start_node(server.url)
    rate = 1_000_000
    node.put_rule(client_id="flushed", rate=rate, window=3600, algorithm="fixed_window")
    with redis.Redis.from_url(server.url) as admin, Load([node], {"client_id": "flushed"}, width=WIDTH) as load:
        for _ in range(30):
            admin.script_flush()
            assert not threading.Event().wait(0.1)
    decisions = load.decisions()
    measured["checks"], measured["failed or degraded"] = len(decisions), 0
    measured["p99 ms"] = round(percentile([answer.seconds for answer in load.answers], 99) * 1e3, 1)
    assert load.errors == []
    assert load.statuses == {200}
    assert not any(decision["degraded"] for decision in decisions)
    assert node.check("flushed", cost=0)["remaining"] == rate - len(decisions)


@pytest.mark.fault(13, "FLUSHALL under load")
def test_lost_counters_cost_at_most_one_more_limit(
    start_redis: StartRedis, start_node: StartNode, measured: Figures
) -> None:
    """Each key has at most one further limit; no check fails or degrades."""
    server = start_redis()
    node = start_node(server.url)
    node.put_rule(client_id="emptied", **HOUR)
    with redis.Redis.from_url(server.url) as admin, Load([node], {"client_id": "emptied"}, width=WIDTH) as load:
        assert node.eventually(lambda: node.check("emptied", cost=0)["remaining"] <= LIMIT // 4)
        admin.flushall()
        assert node.eventually(lambda: node.check("emptied", cost=0)["remaining"] == 0)
    measured["limit"], measured["admitted"] = LIMIT, admitted(load.answers, degraded=False)
    assert load.errors == []
    assert not any(decision["degraded"] for decision in load.decisions())
    assert LIMIT < measured["admitted"] <= 2 * LIMIT


@pytest.mark.fault(14, "unique clients fill Redis to its maxmemory (noeviction); `local`")
def test_a_full_redis_un_limits_nobody(start_redis: StartRedis, start_node: StartNode, measured: Figures) -> None:
    """Every counter survives. A client over its limit stays denied; another gets at most the local shares on top."""
    server = start_redis(**{"maxmemory": "5mb"})
    node = start_node(server.url, WEB_CONCURRENCY=WORKERS)
    node.put_rule(client_id="victim*", **HOUR | {"rate": 10})
    node.put_rule(client_id="attacker *", **HOUR | {"fail_mode": "open"})
    over, under = ([f"victim {kind} {number}" for number in range(10)] for kind in ("over", "under"))
    for client in over:
        assert node.check(client, cost=10)["allowed"]
    for client in under:
        assert node.check(client, cost=4)["allowed"]
    attackers = fill(node, server)
    # A worker looks at most once a second.
    assert node.eventually(lambda: node.request("GET", "/health", key=None).json()["status"] == "degraded")
    assert node.eventually(lambda: any(" is full " in reason for reason in reasons(node)))
    extra = {client: sum(node.check(client)["allowed"] for _ in range(20)) for client in (*over, *under)}
    with redis.Redis.from_url(server.url) as admin:
        admin.config_set("maxmemory", 0)
    assert node.eventually(lambda: not node.check("victim after")["degraded"])
    assert node.eventually(lambda: node.request("GET", "/health", key=None).json()["reasons"] == [])
    kept = {client: node.check(client, cost=0)["remaining"] for client in (*over, *under)}
    measured["attackers until full"] = attackers
    measured["counters kept, %"] = 100 * sum(kept[c] == 0 for c in over) // len(over)
    measured["most on top, of a limit of 10"] = max(extra.values())
    assert [kept[client] for client in over] == [0] * len(over)
    assert all(kept[client] <= 6 for client in under)
    assert max(extra[client] for client in over) <= 10
    assert max(extra[client] for client in under) <= 6 + 10


def reasons(node: Node) -> list[str]:
    told: list[str] = node.request("GET", "/health", key=None).json()["reasons"]
    return told


def fill(node: Node, server: Valkey) -> int:
    """Unknown clients until Redis refuses to take more; how many there were."""
    for number in range(0, 1_000_000, 500):
        checks: list[dict[str, Any]] = [{"client_id": f"attacker {number + i}"} for i in range(500)]
        results = node.request("POST", "/v1/check/batch", key=None, json={"checks": checks}).json()["results"]
        if all(result["degraded"] for result in results):
            return number
    raise AssertionError("Redis never became full")
