"""Traces: which requests get spans, sent to Jaeger as OTLP over HTTP. Off by default.

A request continues the trace that its caller names (W3C Trace Context). The standard OTEL_* variables hold for the SDK;
sampling is 1 % of the requests whose caller has not decided, where OTEL_TRACES_SAMPLER says nothing else.

Apart from the spans themselves, for the SDK is large, and commands have no traces.
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
EXPORT_SECONDS = 2  # a collector that does not answer costs the exporter this, and checks nothing
QUEUE = 2048  # finished spans that wait; more are dropped

UNSAMPLED = re.compile("00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f][02468ace]")

_w3c = TraceContextTextMapPropagator()
_NO_PARENT = Context()


class Exporter(OTLPSpanExporter):
    """Says when the collector stops taking spans and when it takes them again, not at each attempt."""

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


class AskedIds(RandomIdGenerator):
    """The next trace gets the id that was drawn last, for which the sampler was asked."""

    def __init__(self) -> None:
        self._drawn = 0

    def draw(self) -> int:
        self._drawn = getrandbits(128)
        return self._drawn

    def generate_trace_id(self) -> int:
        return self._drawn


class Tracing:
    """Decides which requests get spans, and exports one worker's.

    `endpoint` is the URL spans are posted to; None leaves it to OTEL_EXPORTER_OTLP_ENDPOINT.
    """

    def __init__(self, *, service_name: str, endpoint: str | None, sampler_from_environment: bool) -> None:
        sampler: Sampler | None = None if sampler_from_environment else ParentBased(TraceIdRatioBased(SAMPLED))
        resource = Resource.create({SERVICE_NAME: service_name})
        self._endpoint = endpoint
        self._ids = AskedIds()
        self._provider = TracerProvider(
            sampler=sampler, resource=resource, id_generator=self._ids, shutdown_on_exit=False
        )
        self._sampler = self._provider.sampler
        self._callers_decide = isinstance(self._sampler, ParentBased)

    def start(self) -> None:
        """After the fork: the exporter's thread would not survive it."""
        exporter = Exporter(endpoint=self._endpoint, timeout=EXPORT_SECONDS)
        self._provider.add_span_processor(BatchSpanProcessor(exporter, max_queue_size=QUEUE))
        trace.set_tracer_provider(self._provider)
        # What the SDK would say from here on, callers and collectors can make it say at will.
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)

    def stop(self) -> None:
        """Export what waits, within EXPORT_SECONDS; the rest is lost."""
        try:
            with gevent.Timeout(EXPORT_SECONDS):
                self._provider.shutdown()
        except gevent.Timeout:
            log.warning("the collector does not answer: the last traces are lost")

    def begin(self, name: str, correlation_id: str, parent: Parent | None) -> Span | None:
        """The span of a request named `METHOD /route`; None where it is not sampled. Malformed: no parent.

        Most are not sampled, so that is found out first: a span costs ten times as much as the question.
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
