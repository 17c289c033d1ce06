"""The way to Redis is slow, lossy, reset or gone (rows 5 to 9 of the fault matrix)."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from devstack import Valkey
from tests.faults.conftest import StartNode, socket_of
from tests.support.burst import Burst
from tests.support.faults import ALL, Figures
from tests.support.load import Load, percentile
from tests.support.node import Node
from tests.support.proxy import Proxy

TIMEOUT_MS = 300
SECONDS = 3 if ALL else 1  # of each disturbance
HOUR = {"rate": 1_000_000, "window": 3600, "algorithm": "fixed_window"}


@pytest.mark.fault(5, "the answer of Redis is lost after the script ran; the caller asks again with its `request_id`")
def test_a_lost_answer_charges_once(proxy: Proxy, start_node: StartNode, measured: Figures) -> None:
    """Each check is charged exactly once, and the second answer is the decision."""
    node = start_node(proxy.url, WEB_CONCURRENCY=1, FAIL_MODE="closed", REDIS_TIMEOUT_MS=300)
    node.put_rule(client_id="lost", **HOUR)
    checks = 10
    for number in range(checks):
        assert node.eventually(lambda: asked(node, cost=0) == 200)  # connected
        proxy.lose_answers = True
        assert asked(node, request_id=f"check-{number}") == 503
        proxy.lose_answers = False
        assert node.eventually(lambda number=number: asked(node, request_id=f"check-{number}") == 200)
    measured["checks"] = checks
    measured["charges per check"] = (HOUR["rate"] - node.check("lost", cost=0)["remaining"]) / checks
    assert measured["charges per check"] == 1


def asked(node: Node, **fields: object) -> int:
    """The status of a check."""
    return node.request("POST", "/v1/check", key=None, json={"client_id": "lost"} | fields).status_code


@pytest.fixture(scope="module")
def far(valkey: Valkey, own_database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Node, Proxy]]:
    """A node whose way to Redis will be slow or lossy. Its rules fail open, "strict *" closed."""
    with Proxy(socket_of(valkey)) as proxy:
        data_dir = tmp_path_factory.mktemp("far")
        settings = {"REDIS_TIMEOUT_MS": TIMEOUT_MS, "BREAKER_FAILURES": 1_000_000}
        with Node(redis_url=proxy.url, database_url=own_database, data_dir=data_dir, **settings) as node:
            node.put_rule(client_id="far", **HOUR)
            node.put_rule(client_id="strict *", **HOUR, fail_mode="closed")
            yield node, proxy


@pytest.mark.parametrize("milliseconds", [50, 200, 1000])
@pytest.mark.fault(6, f"Redis is so many ms away, timeout {TIMEOUT_MS} ms; `open`")
def test_a_slow_way_makes_no_queue(far: tuple[Node, Proxy], milliseconds: int, measured: Figures) -> None:
    """Within the timeout Redis decides; beyond it checks degrade after the timeout, and none waits for another."""
    node, proxy = far
    with Load([node], {"client_id": "far"}, width=8) as load:
        assert node.eventually(lambda: len(load.answers) > 100)
        proxy.delay_seconds = milliseconds / 2000  # each way
        slowed = time.monotonic()
        assert not threading.Event().wait(SECONDS)
        until = time.monotonic()
        proxy.delay_seconds = 0
        assert node.eventually(lambda: not any(answer.json()["degraded"] for answer in load.answers[-8:]))
    meanwhile = [answer for answer in load.answers if slowed < answer.began < until - answer.seconds]
    measured["degraded, %"] = round(100 * sum(answer.json()["degraded"] for answer in meanwhile) / len(meanwhile))
    measured["p99 ms"] = round(percentile([answer.seconds for answer in meanwhile], 99) * 1e3)
    assert load.errors == []
    assert load.statuses == {200}
    if milliseconds > TIMEOUT_MS:
        assert measured["degraded, %"] == 100
    assert measured["p99 ms"] < 3000


@pytest.mark.parametrize("percent", [1, 5, 20])
@pytest.mark.fault(7, "so many % of what passes to and from Redis arrives 200 ms late, as lost packets do; `closed`")
def test_loss_delays_and_mixes_up_nothing(far: tuple[Node, Proxy], percent: int, measured: Figures) -> None:
    """What is late beyond the timeout (300 ms) is refused; no caller gets another's answer."""
    node, proxy = far
    with Load([node], lambda caller: {"client_id": f"strict {percent} {caller}"}, width=8) as load:
        assert node.eventually(lambda: len(load.answers) > 100)
        proxy.late_share = percent / 100
        assert not threading.Event().wait(SECONDS)
        proxy.late_share = 0
    refused = sum(answer.status == 503 for answer in load.answers)
    measured["checks"], measured["refused, %"] = len(load.answers), round(100 * refused / len(load.answers), 1)
    measured["p99 ms"] = round(percentile([answer.seconds for answer in load.answers], 99) * 1e3)
    measured["wrong answers"] = 0
    assert load.errors == []
    assert load.statuses <= {200, 503}
    each_has_his_own(load)


def each_has_his_own(load: Load) -> None:
    """Every caller has a counter of his own, so what remains of it only ever shrinks."""
    for caller in {answer.caller for answer in load.answers}:
        left = [
            answer.json()["remaining"] for answer in load.answers if (answer.caller, answer.status) == (caller, 200)
        ]
        assert left == sorted(set(left), reverse=True)


@pytest.mark.fault(8, "every connection to Redis is reset five times a second under load; `closed`")
def test_resets_fail_what_was_out_and_mix_up_nothing(proxy: Proxy, start_node: StartNode, measured: Figures) -> None:
    """A reset fails only what was out; the next check connects anew. No caller gets another's answer."""
    node = start_node(proxy.url, FAIL_MODE="closed")
    node.put_rule(client_id="reset*", **HOUR)
    resets = 0
    with Load([node], lambda caller: {"client_id": f"reset {caller}"}, width=8) as load:
        for _ in range(15):
            assert not threading.Event().wait(0.2)
            resets += proxy.reset()
    refused = sum(answer.status == 503 for answer in load.answers)
    measured["connections reset"], measured["checks"] = resets, len(load.answers)
    measured["refused per reset"] = round(refused / max(resets, 1), 1)
    assert load.errors == []
    assert load.statuses <= {200, 503}
    assert refused <= 8 * max(resets, 1)
    each_has_his_own(load)
    assert node.eventually(lambda: not node.check("reset after")["degraded"])


@pytest.mark.fault(9, "one of two nodes loses the way to Redis (nothing passes); `local`, NODES=2")
def test_a_cut_off_node_admits_its_share_and_the_other_is_exact(
    proxy: Proxy, valkey: Valkey, start_node: StartNode, measured: Figures
) -> None:
    """The node with Redis admits exactly the limit, the other at most its share, limit / 2."""
    limit, settings = 100, {"FAIL_MODE": "local", "NODES": 2, "WEB_CONCURRENCY": 2, "BREAKER_FAILURES": 3}
    whole = start_node(valkey.url, **settings)
    cut = start_node(proxy.url, **settings | {"REDIS_TIMEOUT_MS": 300})
    whole.put_rule(client_id="parted", **HOUR | {"rate": limit})
    known = whole.metric("ratelimiter_rules_version")
    assert cut.eventually(lambda: cut.metric("ratelimiter_rules_version") >= known)
    proxy.black_hole = True
    with Burst(whole.port, 100) as there, Burst(cut.port, 100) as here:
        decisions = [(there.check(client_id="parted"), here.check(client_id="parted")) for _ in range(3)]
    exact = sum(decision["allowed"] for burst, _ in decisions for decision in burst)
    alone = sum(decision["allowed"] for _, burst in decisions for decision in burst)
    assert not any(decision["degraded"] for burst, _ in decisions for decision in burst)
    assert all(decision["degraded"] for _, burst in decisions for decision in burst)
    measured["limit"], measured["admitted by the whole node"], measured["by the other"] = limit, exact, alone
    assert exact == limit
    assert alone <= limit // 2
