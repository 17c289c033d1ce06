"""What a node may find where a collector should be: one that takes spans, and one that never answers."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


class SeenSpan(NamedTuple):
    """A span as the collector got it. Ids in hexadecimal; `parent` is empty where the trace begins."""

    service: str
    name: str
    trace: str
    id: str
    parent: str
    state: str
    attributes: dict[str, str]
    status: str


class Collector(ThreadingHTTPServer):
    """Speaks OTLP over HTTP, and keeps the spans it is sent."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Receiver)
        self.spans: list[SeenSpan] = []

    def of(self, correlation_id: str) -> list[SeenSpan]:
        """The spans of the trace in which a request had this id."""
        traces = {span.trace for span in self.spans if span.attributes.get("correlation_id") == correlation_id}
        return [span for span in self.spans if span.trace in traces]


class Receiver(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        assert isinstance(self.server, Collector)
        sent = ExportTraceServiceRequest.FromString(self.rfile.read(int(self.headers["Content-Length"])))
        for resource in sent.resource_spans:
            service = {a.key: a.value.string_value for a in resource.resource.attributes}["service.name"]
            for span in (span for scope in resource.scope_spans for span in scope.spans):
                attributes = {a.key: a.value.string_value or str(a.value.int_value) for a in span.attributes}
                ids = (span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex())
                seen = SeenSpan(service, span.name, *ids, span.trace_state, attributes, span.status.message)
                self.server.spans.append(seen)
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Quiet."""


@contextmanager
def collector() -> Iterator[Collector]:
    with Collector() as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join(5)


@contextmanager
def black_hole() -> Iterator[int]:
    """A port that takes connections, by its backlog alone, and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as server:
        yield server.getsockname()[1]
