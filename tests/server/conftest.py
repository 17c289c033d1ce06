"""Two doors to one behaviour: a node with the fast lane and one without, on the same Redis and database."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import pytest

from app.embedded import Valkey
from tests.support.node import Node


class Doors(NamedTuple):
    fast: Node
    stock: Node


@pytest.fixture(scope="session")
def doors(valkey: Valkey, database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Doors]:
    common = {"redis_url": valkey.url, "database_url": database_url, "REDIS_TIMEOUT_MS": 5000, "WEB_CONCURRENCY": 1}
    with (
        Node(data_dir=tmp_path_factory.mktemp("fast"), FAST_LANE="true", **common) as fast,
        Node(data_dir=tmp_path_factory.mktemp("stock"), FAST_LANE="false", **common) as stock,
    ):
        yield Doors(fast, stock)
