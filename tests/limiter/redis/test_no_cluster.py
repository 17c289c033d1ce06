"""A store for a cluster, on a server that is no member of one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from app.limiter.decision import Outcome
from app.limiter.errors import StoreError, StoreUnavailable
from tests.support.cluster_stores import charges_everywhere, store_at
from tests.support.topologies import Group


@pytest.fixture
def alone(tmp_path: Path, sockets: Path) -> Iterator[str]:
    """A server that is no member of a cluster."""
    with ExitStack() as running:
        yield f"redis://127.0.0.1:{Group(tmp_path, sockets, running).start()}"


def test_what_is_no_cluster_is_said(alone: str) -> None:
    store, breakers = store_at(alone.replace("redis://", "redis+cluster://"), timeout_ms=1000)
    [error] = store.check(charges_everywhere(1))
    assert isinstance(error, StoreUnavailable)
    assert "cluster support disabled" in str(error)
    with pytest.raises(StoreError):
        store.load_scripts()
    assert not store.ping()
    assert not isinstance(store.check(charges_everywhere(1))[0], Outcome)
    assert breakers.status().state == "open"  # nobody waits any more
    assert breakers.state_number == 2
