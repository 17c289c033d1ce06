"""Finding the primary through real sentinels."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.limiter.errors import StoreUnavailable
from app.limiter.redis_store import RedisStore, connect
from app.limiter.redis_url import Address
from app.limiter.sentinels import KNOWN, remembered
from app.rules.rule import Limit
from tests.limiter.test_redis_store import charge
from tests.support.topologies import SentinelGroup, eventually, sentinel_group


@pytest.fixture(scope="module")
def group(tmp_path_factory: pytest.TempPathFactory, sockets: Path) -> Iterator[SentinelGroup]:
    with sentinel_group(tmp_path_factory.mktemp("sentinels"), sockets) as running:
        yield running


def store_at(url: str, timeout_ms: int = 5000) -> RedisStore:
    return RedisStore(connect(url, timeout_ms=timeout_ms, clock=time.monotonic))


def why(store: RedisStore) -> str:
    with pytest.raises(StoreUnavailable) as caught:
        store.check([charge(Limit(3, 60, "gcra"))])
    return str(caught.value)


def test_sentinels_that_are_away_are_passed_over(group: SentinelGroup) -> None:
    assert store_at(group.url.replace("@", "@127.0.0.1:1,localhost:2,")).ping()


def test_a_sentinel_that_never_answers_is_passed_over(group: SentinelGroup) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        store = store_at(group.url.replace("@", f"@127.0.0.1:{silent.getsockname()[1]},"), timeout_ms=300)
        eventually(store.ping)


def test_a_name_that_no_sentinel_knows_is_said(group: SentinelGroup) -> None:
    said = why(store_at(group.url.replace("/limits", "/nobody")))
    assert said.startswith("no sentinel names a primary of nobody: 127.0.0.1:")
    assert "s3cret" not in said


def test_whoever_is_named_must_be_a_primary_itself(group: SentinelGroup) -> None:
    """As a stale sentinel would name it."""
    sentinel = group.sentinels[2]
    group.ask(sentinel, "SENTINEL", "MONITOR", "stale", "127.0.0.1", group.replica, 2)
    assert f"127.0.0.1:{group.replica} is no primary" in why(store_at(group.url.replace("/limits", "/stale")))
    group.ask(sentinel, "SENTINEL", "REMOVE", "stale")


def test_what_is_remembered_has_a_bound() -> None:
    crowd = [Address("sentinel", port) for port in range(1, 100)]
    known = remembered(crowd[7], crowd[:8], crowd)
    assert known == [crowd[7], *crowd[:7], *crowd[8:KNOWN]]


def test_sentinels_that_the_url_does_not_name_are_remembered(group: SentinelGroup) -> None:
    """The last test with this group: it ends two of its servers."""
    named, _, others = group.url.partition(",")
    store = store_at(f"{named}/{others.partition('/')[2]}")
    assert store.ping()
    for port in (group.sentinels[0], group.primary):
        group.servers[port].kill()
    eventually(store.ping, seconds=40)
