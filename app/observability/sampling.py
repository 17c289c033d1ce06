"""Tracing: selects the requests that get spans, and sends spans to Jaeger as OTLP over HTTP. Off by default.

A request continues its caller's trace (W3C Trace Context). The SDK obeys the standard OTEL_* variables. Without
OTEL_TRACES_SAMPLER, 1 % of the requests whose caller has not decided are sampled.

Separate from tracing.py, because the SDK is large and commands have no traces.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from random import getrandbits

import gevent
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import Decision, ParentBased, Sampler, TraceIdRatioBased
from opentelemetry.trace import Span, SpanKind
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from app.observability.tracing import Parent, tracer

log = logging.getLogger(__name__)

SAMPLED = 0.01
EXPORT_SECONDS = 2  # export timeout: a collector that does not answer delays the exporter, not the checks
QUEUE = 2048  # finished spans that wait; further ones are dropped

UNSAMPLED = re.compile("00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f][02468ace]")

_w3c = TraceContextTextMapPropagator()
_NO_PARENT = Context()


class Exporter(OTLPSpanExporter):
    """Logs when the collector stops accepting spans and when it accepts them again, not at each attempt."""

    _last = SpanExportResult.SUCCESS

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = super().export(spans)
        if result is not self._last:
            self._last = result
            if result is SpanExportResult.SUCCESS:
                log.info("the collector accepts traces again")
            else:
                log.warning("the collector does not accept traces: they are dropped until it does")
        return result


class SampledIds(RandomIdGenerator):
    """Gives the next trace the last drawn id, on which the sampler has decided."""

    def __init__(self) -> None:
        self._drawn = 0

    def draw(self) -> int:
        self._drawn = getrandbits(128)
        return self._drawn

    def generate_trace_id(self) -> int:
        return self._drawn


class Tracing:
    """Selects the requests that get spans, and exports one worker's spans.

    `endpoint` is the URL to which spans are posted; None leaves it to OTEL_EXPORTER_OTLP_ENDPOINT.
    """

    def __init__(self, *, service_name: str, endpoint: str | None, sampler_from_environment: bool) -> None:
        sampler: Sampler | None = None if sampler_from_environment else ParentBased(TraceIdRatioBased(SAMPLED))
        resource = Resource.create({SERVICE_NAME: service_name})
        self._endpoint = endpoint
        self._ids = SampledIds()
        self._provider = TracerProvider(
            sampler=sampler, resource=resource, id_generator=self._ids, shutdown_on_exit=False
        )
        self._sampler = self._provider.sampler
        self._callers_decide = isinstance(self._sampler, ParentBased)

    def start(self) -> None:
        """Start after the fork, which the exporter's thread would not survive."""
        exporter = Exporter(endpoint=self._endpoint, timeout=EXPORT_SECONDS)
        self._provider.add_span_processor(BatchSpanProcessor(exporter, max_queue_size=QUEUE))
        trace.set_tracer_provider(self._provider)
        # Callers and collectors could trigger the SDK's further log lines at will.
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)

    def stop(self) -> None:
        """Export waiting spans within EXPORT_SECONDS; the rest is lost."""
        try:
            with gevent.Timeout(EXPORT_SECONDS):
                self._provider.shutdown()
        except gevent.Timeout:
            log.warning("the collector does not answer: the last traces are lost")

    def begin(self, name: str, correlation_id: str, parent: Parent | None) -> Span | None:
        """Return the span of a request, named `METHOD /route`; None if it is not sampled.

        A malformed `parent` is ignored. Most requests are not sampled, so sampling is decided first: a span costs ten
        times as much as that decision.
        """
        context, trace_id = _NO_PARENT, self._ids.draw()
        if parent is None:
            if self._sampler.should_sample(context, trace_id, name).decision is Decision.DROP:
                return None
        elif self._callers_decide and UNSAMPLED.fullmatch(parent.traceparent):
            return None
        else:
            headers = {"traceparent": parent.traceparent, "tracestate": parent.tracestate or ""}
            context = _w3c.extract(headers, context)
        method, _, route = name.partition(" ")
        attributes = {"http.method": method, "http.url": route, "correlation_id": correlation_id}
        span = tracer.start_span(name, context, SpanKind.SERVER, attributes)
        return span if span.is_recording() else None
