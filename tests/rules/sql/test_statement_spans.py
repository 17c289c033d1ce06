"""Statements inside a recorded span: their text, never their values, and of an error only its type."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import Tracer
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.exc import DataError

from app.observability.tracing import within
from app.rules.sql.database import statement_spans
from app.rules.sql.database.engine import ENGINE_OPTIONS
from app.rules.sql.database.statement_spans import CHARACTERS, trace_statements


@pytest.fixture
def seen() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def tracer(seen: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch) -> Tracer:
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(seen))
    monkeypatch.setattr(statement_spans, "tracer", provider.get_tracer("test"))
    return provider.get_tracer("test")


@pytest.fixture
def engine(database_url: str, tracer: Tracer) -> Iterator[Engine]:
    engine = create_engine(database_url, **ENGINE_OPTIONS)
    trace_statements(engine)
    yield engine
    engine.dispose()


def test_statements_are_spans_of_the_request_that_asks(
    engine: Engine, tracer: Tracer, seen: InMemorySpanExporter
) -> None:
    with engine.connect() as connection:
        connection.execute(text("SELECT 1"))  # nobody's
        with within(tracer.start_span("request")):
            connection.execute(text("SELECT :who"), {"who": "private"})
            connection.execute(text("SELECT " + "+".join(["1"] * CHARACTERS)))
    first, second, request = seen.get_finished_spans()
    assert (first.attributes or {})["db.statement"] == "SELECT %(who)s"
    assert len(str((second.attributes or {})["db.statement"])) == CHARACTERS
    assert {span.parent.span_id for span in (first, second) if span.parent} == {request.context.span_id}


def test_a_failed_statement_shows_its_type_and_no_text(
    engine: Engine, tracer: Tracer, seen: InMemorySpanExporter
) -> None:
    with engine.connect() as connection, within(tracer.start_span("request")), pytest.raises(DataError) as caught:
        connection.execute(text("SELECT CAST(:who AS integer)"), {"who": "private"})
    [statement, _] = seen.get_finished_spans()
    assert statement.status.description == "InvalidTextRepresentation"
    assert not statement.events
    assert "parameters hidden" in str(caught.value)
