"""The two doors that the tests here compare."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from devstack import Valkey
from tests.server.doors import Doors
from tests.support.node import Node


@pytest.fixture(scope="session")
def doors(
    valkey: Valkey, new_database: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Doors]:
    """On a database of their own, where every client but `parity` is always allowed: both get the same answers."""
    common = {
        "redis_url": valkey.url,
        "database_url": new_database("doors"),
        "REDIS_TIMEOUT_MS": 5000,
        "WEB_CONCURRENCY": 1,
    }
    with (
        Node(data_dir=tmp_path_factory.mktemp("fast"), FAST_LANE="true", **common) as fast,
        Node(data_dir=tmp_path_factory.mktemp("stock"), FAST_LANE="false", **common) as stock,
    ):
        fast.put_rule(client_id="parity", rate=100, window=60)
        fast.put_rule(client_id="*", rate=100, window=60, action="allow")
        version = "ratelimiter_rules_version"
        assert stock.eventually(lambda: stock.metric(version) == fast.metric(version))
        yield Doors(fast, stock)
