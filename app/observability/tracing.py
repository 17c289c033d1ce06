"""Traces: spans of checks, sent to Jaeger as OTLP over HTTP. Off by default, and then spans cost next to nothing.

The standard OTEL_* variables hold for the SDK; sampling is 1 % where OTEL_TRACES_SAMPLER says nothing else. Spans
carry no client ids, keys or script arguments.
"""

from __future__ import annotations

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBased, Sampler, TraceIdRatioBased

tracer = trace.get_tracer("ratelimiter")  # does nothing until start() was called

SAMPLED = 0.01
EXPORT_SECONDS = 2  # a collector that does not answer costs the exporter this, and checks nothing
QUEUE = 2048  # finished spans that wait; more are dropped


def start(*, service_name: str, endpoint: str | None, sampler_from_environment: bool) -> None:
    """Export the spans of this worker. After the fork: the exporter's thread would not survive it.

    `endpoint` is the URL spans are posted to; None leaves it to OTEL_EXPORTER_OTLP_ENDPOINT.
    """
    sampler: Sampler | None = None if sampler_from_environment else ParentBased(TraceIdRatioBased(SAMPLED))
    provider = TracerProvider(sampler=sampler, resource=Resource.create({SERVICE_NAME: service_name}))
    exporter = OTLPSpanExporter(endpoint=endpoint, timeout=EXPORT_SECONDS)
    provider.add_span_processor(BatchSpanProcessor(exporter, max_queue_size=QUEUE))
    trace.set_tracer_provider(provider)
