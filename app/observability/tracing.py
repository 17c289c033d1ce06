"""Spans of requests: whose trace they continue, and what is noted in them. app/observability/sampling.py makes them.

Spans carry no client ids, keys, script arguments or values of SQL parameters, and of an error no more than its type.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import NamedTuple

from opentelemetry import trace
from opentelemetry.trace import Span, StatusCode

tracer = trace.get_tracer("ratelimiter")  # does nothing until Tracing has started


class Parent(NamedTuple):
    """The headers in which a caller names the span that it waits in, as they were sent."""

    traceparent: str
    tracestate: str | None


def parent_of(traceparent: str | None, tracestate: str | None) -> Parent | None:
    return Parent(traceparent, tracestate) if traceparent else None


def answered(span: Span, status_code: int) -> None:
    """Note what the request of this span was answered."""
    span.set_attribute("http.status_code", status_code)
    if status_code >= HTTPStatus.INTERNAL_SERVER_ERROR:
        span.set_status(StatusCode.ERROR)


@contextmanager
def within(span: Span) -> Iterator[Span]:
    """What happens meanwhile is inside the span, which then ends."""
    try:
        with trace.use_span(span, record_exception=False, set_status_on_exception=False):
            yield span
    except Exception as error:
        span.set_status(StatusCode.ERROR, type(error).__name__)
        raise
    finally:
        span.end()
