"""GET /metrics: the names of the contract, added up over the workers, with labels no caller can choose."""

from __future__ import annotations

from uuid import uuid4

import pytest
import requests

from tests.api.conftest import OtherTenant, PutRules
from tests.api.raw_http import CLOSE, exchange, request
from tests.support.node import Node

TYPES = {
    "ratelimiter_allowed_total": "counter",
    "ratelimiter_blocked_total": "counter",
    "ratelimiter_check_duration_seconds": "histogram",
    "ratelimiter_active_clients": "gauge",
    "ratelimiter_circuit_breaker_state": "gauge",
    "ratelimiter_redis_errors_total": "counter",
    "ratelimiter_degraded_total": "counter",
    "ratelimiter_shadow_blocked_total": "counter",
    "ratelimiter_lease_permits_granted_total": "counter",
    "ratelimiter_lease_permits_returned_total": "counter",
    "ratelimiter_rules_version": "gauge",
    "ratelimiter_rules_age_seconds": "gauge",
}


def _lines(node: Node) -> list[str]:
    answer = node.request("GET", "/metrics", key=None)
    assert answer.status_code == 200
    assert answer.headers["Content-Type"].startswith("text/plain")
    return answer.text.splitlines()


def _series(node: Node) -> set[str]:
    return {line.rpartition(" ")[0] for line in _lines(node) if not line.startswith("#")}


def _check_anew(node: Node, client_id: str, **fields: object) -> None:
    """A check on a connection of its own, so that the kernel chooses a worker again."""
    body = {"client_id": client_id} | fields
    assert requests.post(f"{node.url}/v1/check", json=body, timeout=10).status_code == 200


@pytest.fixture(scope="module")
def counted(node: Node, put_rules: PutRules) -> str:
    """The client pattern of two rules, 30 units an hour, `login` with 10."""
    pattern = f"counted-{uuid4().hex[:8]}-*"
    hour = {"client_id": pattern, "window": 3600, "algorithm": "fixed_window"}
    put_rules(hour | {"rate": 30}, hour | {"rate": 10, "endpoint": "login"})
    return pattern


def test_the_metrics_of_the_contract_are_there_with_their_types(node: Node, counted: str) -> None:
    client_id = counted.replace("*", "types")
    node.check(client_id, cost=30)
    node.check(client_id)
    lines = _lines(node)
    assert [line for name, kind in TYPES.items() if (line := f"# TYPE {name} {kind}") not in lines] == []


@pytest.mark.parametrize("kind", ["text/plain;version=1.x", "application/openmetrics-text;version=1.0.0", "text/html"])
def test_there_is_one_format_whatever_is_accepted(node: Node, kind: str) -> None:
    answer = node.request("GET", "/metrics", key=None, headers={"Accept": kind})
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")


def test_counters_are_sums_over_the_workers(node: Node, counted: str) -> None:
    client_id = counted.replace("*", "sums")
    series = 'ratelimiter_{}_total{{client_id="' + counted + '",endpoint="{}"}}'
    watched = [series.format(name, endpoint) for name in ("allowed", "blocked") for endpoint in ("*", "login")]
    before = [node.metric(name) for name in watched]
    duration = node.metric("ratelimiter_check_duration_seconds_count")
    for _ in range(40):
        _check_anew(node, client_id)
    for _ in range(15):
        _check_anew(node, client_id, limit_key="login")
    _check_anew(node, client_id, cost=0)  # a peek is neither allowed nor blocked
    counted_now = [node.metric(name) for name in watched]
    assert [now - then for now, then in zip(counted_now, before, strict=True)] == [30, 10, 10, 5]
    assert node.metric("ratelimiter_check_duration_seconds_count") == duration + 56


def test_the_histogram_begins_at_100_microseconds(node: Node, client: str) -> None:
    node.check(client)
    bounds = [
        line.partition('le="')[2].partition('"')[0]
        for line in _lines(node)
        if line.startswith("ratelimiter_check_duration_seconds_bucket")
    ]
    assert (bounds[0], bounds[-1]) == ("0.0001", "+Inf")
    assert bounds == sorted(bounds, key=float)


def test_callers_make_no_new_series(node: Node) -> None:
    """Whatever a caller can name: clients, keys, ids, paths, queries and methods."""

    def call(mark: str) -> None:
        node.check(f"client-{mark}", f"key-{mark}")
        node.check(f"client-{mark}", f"key-{mark}", cost=101)
        node.request("POST", "/v1/check", key=f"key-{mark}", json={"client_id": mark})
        node.request("GET", f"/nothing/{mark}", key=None, headers={"X-Correlation-ID": mark})
        node.request("GET", f"/livez?{mark}", key=None)
        node.request("GET", f"/v1/admin/rules/{int(mark, 16)}")
        node.request(f"M{mark}".upper(), "/health", key=None)
        exchange(node.port, request(f"X{mark.upper()} /livez", CLOSE))

    call(uuid4().hex[:8])
    before = _series(node)
    for _ in range(20):
        call(uuid4().hex[:8])
    assert _series(node) == before


def test_active_clients_counts_distinct_clients(node: Node, counted: str) -> None:
    for number in range(300):
        node.check(counted.replace("*", f"active-{number}"), cost=number % 2)
    assert node.metric("ratelimiter_active_clients") >= 290


def test_gauges_say_the_state_of_the_node(node: Node) -> None:
    node.await_rules()
    assert node.metric("ratelimiter_circuit_breaker_state") == 0
    assert node.metric("ratelimiter_rules_version") == node.request("GET", "/health", key=None).json()["rules_version"]
    assert 0 <= node.metric("ratelimiter_rules_age_seconds") < 60


def _of(node: Node, client_id: str) -> list[str]:
    """The series of this client and of those that begin so, without the metric's name."""
    return sorted({name.partition("{")[2] for name in _series(node) if f'client_id="{client_id}' in name})


def test_series_go_with_their_rules_and_move_with_their_names(node: Node, put_rules: PutRules, client: str) -> None:
    [rule, _] = put_rules(
        {"client_id": client, "rate": 30, "window": 3600},
        {"client_id": client, "endpoint": "login", "rate": 9, "window": 60},
    )
    for _ in range(8):
        _check_anew(node, client)
        _check_anew(node, client, limit_key="login")
    assert _of(node, client) == [f'client_id="{client}",endpoint="{endpoint}"}}' for endpoint in ("*", "login")]
    url = f"/v1/admin/rules/{rule['id']}"
    assert node.request("PATCH", url, json={"client_id": f"{client}-2"}).status_code == 200
    node.await_rules()
    for _ in range(3):
        _check_anew(node, f"{client}-2")
    assert _of(node, f"{client}-2") == [f'client_id="{client}-2",endpoint="*"}}']
    assert node.metric(f'ratelimiter_allowed_total{{client_id="{client}-2",endpoint="*"}}') == 3
    assert node.request("PATCH", url, json={"enabled": False}).status_code == 200
    node.await_rules()
    assert _of(node, client) == [f'client_id="{client}",endpoint="login"}}']


def test_two_tenants_with_the_same_pattern_have_two_series(
    node: Node, put_rules: PutRules, other_tenant: OtherTenant, client: str
) -> None:
    rule = {"client_id": client, "rate": 30, "window": 3600}
    put_rules(rule)
    assert node.request("POST", "/v1/admin/rules", key=other_tenant.key, json=rule).status_code == 201
    node.await_rules()
    node.check(client)
    for _ in range(2):
        assert node.request("POST", "/v1/check", key=other_tenant.key, json={"client_id": client}).status_code == 200
    own = f'client_id="{client}",endpoint="*"'
    assert node.metric(f"ratelimiter_allowed_total{{{own}}}") == 1
    assert node.metric(f'ratelimiter_allowed_total{{{own},tenant="{other_tenant.id}"}}') == 2


def test_long_names_are_cut(node: Node, put_rules: PutRules, client: str) -> None:
    name = client.ljust(256, "\U0001f600")
    put_rules({"client_id": name, "rate": 30, "window": 3600})
    node.check(name)
    assert _of(node, client) == [f'client_id="{name[:64]}",endpoint="*"}}']
