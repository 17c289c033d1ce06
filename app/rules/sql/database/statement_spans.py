"""Spans of SQL statements, inside the span of the request that runs them."""

from __future__ import annotations

from typing import Any

from opentelemetry.trace import SpanKind, StatusCode, get_current_span
from sqlalchemy import Engine, event

from app.observability.tracing import tracer

CHARACTERS = 2000  # of a statement, in which parameters are placeholders


def trace_statements(engine: Engine) -> None:
    """Trace the engine's statements from now on. Statements outside a recorded request, such as polls, get no spans."""
    event.listen(engine, "before_cursor_execute", _begin)
    event.listen(engine, "after_cursor_execute", _end)
    event.listen(engine, "handle_error", _fail)


def _begin(_connection: Any, _cursor: Any, statement: str, _parameters: Any, context: Any, _many: bool) -> None:
    if get_current_span().is_recording():
        attributes = {"db.system": "postgresql", "db.statement": statement[:CHARACTERS]}
        context.span = tracer.start_span("db", kind=SpanKind.CLIENT, attributes=attributes)


def _end(_connection: Any, _cursor: Any, _statement: str, _parameters: Any, context: Any, _many: bool) -> None:
    if hasattr(context, "span"):
        context.span.end()


def _fail(error: Any) -> None:
    context = error.execution_context
    if hasattr(context, "span"):
        context.span.set_status(StatusCode.ERROR, type(error.original_exception).__name__)
        context.span.end()
