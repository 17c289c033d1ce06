"""Nodes of their own on a database of their own, for tests that hurt it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import psycopg2
import pytest

from app.embedded import Valkey
from tests.support.node import Node

Sql = Callable[[str], list[tuple]]


@pytest.fixture(scope="module")
def own_database(new_database: Callable[[str], str], request: pytest.FixtureRequest) -> str:
    return new_database(request.module.__name__)


@pytest.fixture(scope="module")
def nodes(own_database: str, valkey: Valkey, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Node]]:
    """Two nodes of two workers each, on the same servers."""
    with ExitStack() as running:
        yield [
            running.enter_context(
                Node(
                    redis_url=valkey.url,
                    database_url=own_database,
                    data_dir=tmp_path_factory.mktemp("node"),
                    REDIS_TIMEOUT_MS=5000,  # so that a slow moment of this machine is no fault
                )
            )
            for _ in range(2)
        ]


@pytest.fixture
def sql(own_database: str) -> Iterator[Sql]:
    """Runs one statement by hand; the rows it returns."""
    connection = psycopg2.connect(own_database)
    connection.autocommit = True

    def run(statement: str) -> list[tuple]:
        with connection.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchall() if cursor.description else []

    yield run
    connection.close()
