"""Traces reach a collector that speaks OTLP over HTTP; without one, nothing else changes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from app.embedded import Valkey
from tests.support.node import Node, free_port


class Collector(HTTPServer):
    """Keeps the spans it is sent."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Receiver)
        self.spans: list[tuple[str, str, dict[str, str]]] = []


class Receiver(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        assert isinstance(self.server, Collector)
        sent = ExportTraceServiceRequest.FromString(self.rfile.read(int(self.headers["Content-Length"])))
        for resource in sent.resource_spans:
            service = {a.key: a.value.string_value for a in resource.resource.attributes}["service.name"]
            for scope in resource.scope_spans:
                for span in scope.spans:
                    attributes = {a.key: a.value.string_value or str(a.value.int_value) for a in span.attributes}
                    self.server.spans.append((service, span.name, attributes))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join(5)


def test_a_check_and_its_trip_to_redis_are_traced(
    collector: Collector, valkey: Valkey, database_url: str, tmp_path: Path
) -> None:
    settings = {
        "JAEGER_ENABLED": "true",
        "JAEGER_HOST": "127.0.0.1",
        "JAEGER_PORT": collector.server_port,
        "SERVICE_NAME": "traced",
        "OTEL_TRACES_SAMPLER": "always_on",
        "OTEL_BSP_SCHEDULE_DELAY": "100",
        "WEB_CONCURRENCY": 1,
    }
    with Node(redis_url=valkey.url, database_url=database_url, data_dir=tmp_path, **settings) as node:
        headers = {"X-Correlation-ID": "find-me"}
        node.request("POST", "/v1/check", key=None, json={"client_id": "someone private"}, headers=headers)

        def found() -> dict[str, dict[str, str]]:
            return {name: attributes for service, name, attributes in collector.spans if service == "traced"}

        assert node.eventually(lambda: {"POST /v1/check", "redis.evalsha"} <= set(found()))
    check = found()["POST /v1/check"]
    assert (check["http.method"], check["http.status_code"], check["correlation_id"]) == ("POST", "200", "find-me")
    assert found()["redis.evalsha"] == {"redis.command": "EVALSHA"}
    assert "private" not in str(collector.spans)


def test_without_a_collector_checks_go_on(valkey: Valkey, database_url: str, tmp_path: Path) -> None:
    settings = {"JAEGER_ENABLED": "true", "JAEGER_PORT": free_port(), "OTEL_TRACES_SAMPLER": "always_on"}
    with Node(redis_url=valkey.url, database_url=database_url, data_dir=tmp_path, **settings) as node:
        for _ in range(20):
            assert not node.check("untraced")["degraded"]
