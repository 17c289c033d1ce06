"""Nodes and servers of their own, for tests that hurt them."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from devstack import Valkey
from tests.support.node import Node
from tests.support.proxy import Proxy

StartRedis = Callable[..., Valkey]
StartNode = Callable[..., Node]
Sql = Callable[[str], list[tuple]]


@pytest.fixture(scope="module")
def own_database(new_database: Callable[[str], str], request: pytest.FixtureRequest) -> str:
    return new_database(request.module.__name__)


@pytest.fixture
def start_redis(tmp_path: Path, sockets: Path) -> Iterator[StartRedis]:
    """Starts a Valkey with the given options, until the end of the test. Without an append-only file by default."""
    with ExitStack() as running:

        def start(*, durable: bool = False, **options: str) -> Valkey:
            own = sockets / secrets.token_hex(4)
            own.mkdir()
            server = Valkey(data_dir=tmp_path / own.name, socket_dir=own, durable=durable, options=options)
            return running.enter_context(server)

        yield start


@pytest.fixture
def start_node(own_database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartNode]:
    """Starts a node on the module's database, until the end of the test.

    By default its Redis timeout is one that a busy machine does not reach, and no number of failures opens the breaker.
    """
    with ExitStack() as running:

        def start(redis_url: str, **settings: Any) -> Node:
            patient = {"REDIS_TIMEOUT_MS": 5000, "BREAKER_FAILURES": 1_000_000}
            data_dir = tmp_path_factory.mktemp("node")
            node = Node(redis_url=redis_url, database_url=own_database, data_dir=data_dir, **patient | settings)
            return running.enter_context(node)

        yield start


@pytest.fixture
def proxy(valkey: Valkey) -> Iterator[Proxy]:
    """In front of the shared Redis."""
    with Proxy(socket_of(valkey)) as running:
        yield running


def socket_of(server: Valkey) -> Path:
    return Path(server.url.removeprefix("unix://").partition("?")[0])


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
