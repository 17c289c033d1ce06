"""Request spans: the trace they continue and their attributes. app/observability/sampling.py creates them.

Spans contain no client ids, keys, script arguments or SQL parameter values, and only the type of an error.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import NamedTuple

from opentelemetry import trace
from opentelemetry.trace import Span, StatusCode

tracer = trace.get_tracer("ratelimiter")  # a no-op until Tracing has started


class Parent(NamedTuple):
    """The headers that name the caller's waiting span, as sent."""

    traceparent: str
    tracestate: str | None


def parent_of(traceparent: str | None, tracestate: str | None) -> Parent | None:
    return Parent(traceparent, tracestate) if traceparent else None


def answered(span: Span, status_code: int) -> None:
    """Record the request's response status on its span."""
    span.set_attribute("http.status_code", status_code)
    if status_code >= HTTPStatus.INTERNAL_SERVER_ERROR:
        span.set_status(StatusCode.ERROR)


@contextmanager
def within(span: Span) -> Iterator[Span]:
    """Enter the span and end it afterwards."""
    try:
        with trace.use_span(span, record_exception=False, set_status_on_exception=False):
            yield span
    except Exception as error:
        span.set_status(StatusCode.ERROR, type(error).__name__)
        raise
    finally:
        span.end()
