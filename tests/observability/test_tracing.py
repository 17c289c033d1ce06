"""Traces reach a collector that speaks OTLP over HTTP; without one, nothing else changes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from devstack import Valkey
from tests.observability.collectors import Collector, SeenSpan, black_hole, collector
from tests.support.node import Node, free_port

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
Start = Callable[..., Node]


@pytest.fixture
def start(valkey: Valkey, database_url: str, tmp_path: Path) -> Iterator[Start]:
    """Starts a node that traces to this port."""
    nodes: list[Node] = []

    def starter(port: int, **settings: object) -> Node:
        common = {"JAEGER_ENABLED": "true", "JAEGER_HOST": "127.0.0.1", "JAEGER_PORT": port, "WEB_CONCURRENCY": 1}
        common |= {"REDIS_TIMEOUT_MS": 2000, "SERVICE_NAME": "traced", "OTEL_BSP_SCHEDULE_DELAY": "100"}
        node = Node(redis_url=valkey.url, database_url=database_url, data_dir=tmp_path, **common | settings)
        nodes.append(node)
        node.start()
        return node

    yield starter
    for node in nodes:
        node.stop()


@pytest.fixture(scope="module")
def spans() -> Iterator[Collector]:
    with collector() as running:
        yield running


@pytest.fixture(scope="module", params=["fast lane", "stock"])
def traced(
    request: pytest.FixtureRequest,
    spans: Collector,
    valkey: Valkey,
    database_url: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Node]:
    """A node that leaves the decision to its callers, and else traces nothing."""
    with Node(
        redis_url=valkey.url,
        database_url=database_url,
        data_dir=tmp_path_factory.mktemp("traced"),
        FAST_LANE=str(request.param == "fast lane"),
        JAEGER_ENABLED="true",
        JAEGER_HOST="127.0.0.1",
        JAEGER_PORT=spans.server_port,
        SERVICE_NAME="traced",
        OTEL_TRACES_SAMPLER="parentbased_always_off",
        OTEL_BSP_SCHEDULE_DELAY="100",
        REDIS_TIMEOUT_MS=2000,
    ) as node:
        yield node


def sent(node: Node, spans: Collector, *names: str, method: str, path: str, **request: object) -> list[SeenSpan]:
    """The spans with these names that a request with a sampled parent of our own leaves."""
    mark, trace = uuid4().hex, uuid4().hex
    sampled = {"X-Correlation-ID": mark, "traceparent": f"00-{trace}-{SPAN}-01", "tracestate": "vendor=value"}
    node.request(method, path, headers=sampled, **request)
    assert node.eventually(lambda: set(names) <= {span.name for span in spans.of(mark)}), spans.of(mark)
    found = spans.of(mark)
    assert {span.trace for span in found} == {trace}
    return found


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/check", {"client_id": "someone private"}),
        ("/v1/check/batch", {"checks": [{"client_id": "someone private"}]}),
    ],
)
def test_a_check_continues_the_trace_of_its_caller(
    traced: Node, spans: Collector, path: str, body: dict[str, object]
) -> None:
    found = sent(traced, spans, f"POST {path}", "redis.evalsha", method="POST", path=path, json=body)
    check, redis = sorted(found, key=lambda span: span.name)
    assert (check.service, check.parent, check.state, redis.parent) == ("traced", SPAN, "vendor=value", check.id)
    seen = {name: check.attributes[name] for name in ("http.method", "http.url", "http.status_code")}
    assert seen == {"http.method": "POST", "http.url": path, "http.status_code": "200"}
    assert redis.attributes == {"redis.command": "EVALSHA"}
    assert "private" not in str(spans.spans)


def test_an_admin_request_shows_its_statements_and_no_values(traced: Node, spans: Collector) -> None:
    client_id = f"private-{uuid4().hex[:8]}"
    rule = {"client_id": client_id, "rate": 5, "window": 60}
    found = sent(traced, spans, "POST /v1/admin/rules", "db", method="POST", path="/v1/admin/rules", json=rule)
    [request] = [span for span in found if span.name != "db"]
    statements = [span.attributes["db.statement"] for span in found if span.name == "db"]
    assert (request.parent, request.attributes["http.status_code"]) == (SPAN, "201")
    assert {span.parent for span in found if span.name == "db"} == {request.id}
    assert any(statement.startswith("INSERT INTO all_rules") for statement in statements), statements
    assert client_id not in str(found)


def test_a_request_is_named_by_its_route_not_by_its_path(traced: Node, spans: Collector) -> None:
    route = "/v1/admin/rules/<int:rule_id>"
    path = "/v1/admin/rules/987654321?client_id=someone"
    request = sent(traced, spans, f"GET {route}", method="GET", path=path)[-1]
    assert (request.attributes["http.url"], request.attributes["http.status_code"]) == (route, "404")


@pytest.mark.parametrize(
    "traceparent",
    [
        None,
        f"00-{TRACE}-{SPAN}-00",  # its caller decided against it
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}",
        f"ff-{TRACE}-{SPAN}-01",
        "nonsense",
        "é" * 100,
        f"00-{TRACE.upper()}-{SPAN}-01",
    ],
)
def test_without_a_sampled_parent_the_sampler_decides(traced: Node, spans: Collector, traceparent: str | None) -> None:
    mark = uuid4().hex
    sent_headers = {"X-Correlation-ID": mark} | ({"traceparent": traceparent.encode()} if traceparent else {})
    for method, path, body in (("POST", "/v1/check", {"client_id": "x"}), ("GET", "/health", None)):
        answer = traced.request(method, path, key=None, json=body, headers=sent_headers)
        assert (answer.status_code, answer.headers["X-Correlation-ID"]) == (200, mark)
    sent(traced, spans, "GET /livez", method="GET", path="/livez")  # what came before it has arrived as well
    assert spans.of(mark) == []


def test_a_malformed_tracestate_is_left_out_and_not_logged(traced: Node, spans: Collector) -> None:
    mark = uuid4().hex
    context = {"traceparent": f"00-{TRACE}-{SPAN}-01", "tracestate": "=,[x] forged,a=b,a=b"}
    sent_headers = {"X-Correlation-ID": mark} | context
    answer = traced.request("POST", "/v1/check", key=None, json={"client_id": "x"}, headers=sent_headers)
    assert answer.status_code == 200
    assert traced.eventually(lambda: mark in str(spans.spans))
    assert "forged" not in traced.log.read_text()


def test_what_waits_is_exported_when_the_node_stops(start: Start, spans: Collector) -> None:
    node = start(spans.server_port, OTEL_TRACES_SAMPLER="always_on", OTEL_BSP_SCHEDULE_DELAY="600000")
    mark = uuid4().hex
    node.request("POST", "/v1/check", key=None, json={"client_id": "x"}, headers={"X-Correlation-ID": mark})
    assert spans.of(mark) == []
    node.stop()
    assert sorted(span.name for span in spans.of(mark)) == ["POST /v1/check", "redis.evalsha"]


def test_without_a_collector_checks_go_on_and_the_log_says_so_once(start: Start) -> None:
    node = start(free_port(), OTEL_TRACES_SAMPLER="always_on")
    lost = "the collector does not accept traces"
    assert node.eventually(lambda: not node.check("untraced")["degraded"] and lost in node.log.read_text())
    for _ in range(20):
        assert not node.check("untraced")["degraded"]
    node.stop()
    assert node.log.read_text().count(lost) == 1
    assert "opentelemetry" not in node.log.read_text()


def test_a_collector_that_never_answers_delays_a_stop_no_longer_than_one_export(start: Start) -> None:
    with black_hole() as port:
        node = start(port, OTEL_TRACES_SAMPLER="always_on", OTEL_BSP_MAX_EXPORT_BATCH_SIZE="8")
        for _ in range(200):  # to export all takes longer than gunicorn lets a worker live on
            assert not node.check("untraced")["degraded"]
        node.stop()
        assert "the last traces are lost" in node.log.read_text()
