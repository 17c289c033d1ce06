"""503s: a node whose Redis is not there and whose rules fail closed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from app.observability.logs import MAX_LINES
from app.worker_lifecycle import NO_REDIS
from tests.api.raw_http import problem_of
from tests.support.node import Node


@pytest.fixture(scope="module")
def closed_node(database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    with Node(
        redis_url="redis://127.0.0.1:1/0",
        database_url=database_url,
        data_dir=tmp_path_factory.mktemp("closed"),
        FAIL_MODE="closed",
        WEB_CONCURRENCY=2,
        BREAKER_FAILURES=2,
    ) as node:
        yield node


def test_a_check_that_cannot_be_decided_is_503_with_the_time_to_wait(closed_node: Node, client: str) -> None:
    for _ in range(3):
        answer = closed_node.request("POST", "/v1/check", key=None, json={"client_id": client})
        problem_of(answer, 503)
        assert int(answer.headers["Retry-After"]) >= 1


def test_in_a_batch_it_is_a_problem_in_the_place_of_the_decision(closed_node: Node, client: str) -> None:
    body = {"checks": [{"client_id": client}] * 2}
    answer = closed_node.request("POST", "/v1/check/batch", key=None, json=body)
    assert answer.status_code == 200
    for result in answer.json()["results"]:
        assert set(result) == {"error"}
        assert (result["error"]["status"], result["error"]["title"]) == (503, "Service Unavailable")
        assert result["error"]["correlation_id"] == answer.headers["X-Correlation-ID"]


@pytest.mark.parametrize("fail_mode", ["open", "local", "closed"])
def test_a_lease_is_refused_whatever_the_fail_mode(closed_node: Node, client: str, fail_mode: str) -> None:
    closed_node.put_rule(client_id=client, rate=10, window=60, fail_mode=fail_mode)
    body = {"client_id": client, "permits": 5}
    for path, sent in (("/v1/leases", body), (f"/v1/leases/0.{'A' * 16}.{'A' * 16}/return", {"unused": 1})):
        answer = closed_node.request("POST", path, key=None, json=sent)
        assert "POST /v1/check" in problem_of(answer, 503)["detail"]
        assert int(answer.headers["Retry-After"]) >= 1


def test_refused_leases_do_not_fill_the_log(closed_node: Node, client: str) -> None:
    for _ in range(20):
        closed_node.request("POST", "/v1/leases", key=None, json={"client_id": client, "permits": 5})
    assert closed_node.log.read_text().count("Redis cannot grant leases") == 1


def test_neither_do_refused_questions_of_operators(closed_node: Node, client: str) -> None:
    for _ in range(3 * MAX_LINES):
        problem_of(closed_node.request("GET", "/v1/admin/counters", params={"client_id": client}), 503)
    assert MAX_LINES <= closed_node.log.read_text().count(" - app.api.problems - WARNING - redis: ") <= 2 * MAX_LINES


def test_rules_and_tenants_are_changed_meanwhile(closed_node: Node, client: str) -> None:
    first = closed_node.put_rule(client_id=client, rate=1, window=60)
    closed_node.put_rule(client_id=client, rate=2, window=60)
    rule, tenants = f"/v1/admin/rules/{first['id']}", "/v1/admin/tenants"
    back = closed_node.request("POST", f"{rule}/rollback", json={"version": first["version"]})
    assert (back.status_code, back.json()["rate"]) == (200, 1)
    off = closed_node.request("PATCH", rule, json={"enabled": False})
    assert (off.status_code, off.json()["enabled"]) == (200, False)
    tenant = closed_node.request("POST", tenants, json={"name": client}).json()
    assert closed_node.request("DELETE", f"{tenants}/{tenant['id']}").status_code == 204


def test_health_says_so_and_the_node_stays_ready(closed_node: Node) -> None:
    health = closed_node.request("GET", "/health", key=None)
    assert health.status_code == 200
    assert (health.json()["status"], health.json()["redis_available"]) == ("degraded", False)
    assert "Redis cannot decide checks: Error" in health.json()["reasons"][0]
    assert closed_node.metric('ratelimiter_degraded_reasons{reason="redis"}') == 1
    assert closed_node.request("GET", "/readyz", key=None).status_code == 200


def test_the_breaker_opens_and_counts(closed_node: Node, client: str) -> None:
    for _ in range(3):
        closed_node.request("POST", "/v1/check", key=None, json={"client_id": client})
    status = closed_node.request("GET", "/circuit-breaker-status", key=None).json()
    assert status["state"] == "open"
    assert status["failure_count"] >= 2
    assert 0 < status["time_until_retry_seconds"] <= 66
    assert closed_node.metric("ratelimiter_circuit_breaker_state") == 2
    assert closed_node.metric('ratelimiter_redis_errors_total{operation="check"}') >= 2
    assert closed_node.metric('ratelimiter_degraded_total{mode="closed"}') >= 3


def test_the_log_said_so_at_the_start_once_for_all_workers(closed_node: Node) -> None:
    told = [line for line in closed_node.log.read_text().splitlines() if NO_REDIS.partition("%s")[0] in line]
    assert len(told) == 1
    assert "closed for rules without one" in told[0]
    assert "refused" in told[0]
