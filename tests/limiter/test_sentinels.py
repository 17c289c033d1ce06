"""Finding the primary through real sentinels."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator, Sequence
from itertools import permutations
from pathlib import Path

import gevent
import pytest

from app.limiter.errors import StoreUnavailable
from app.limiter.redis_store import RedisStore, connect
from app.limiter.redis_url import Address, Servers
from app.limiter.sentinel_news import CHANNELS
from app.limiter.sentinels import KNOWN, Answer, Disagreement, Sentinels, latest, remembered
from app.rules.rule import Limit
from tests.limiter.test_redis_store import charge
from tests.support.topologies import MASTER, SentinelGroup, eventually, sentinel_group


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
    assert remembered(crowd[7:9], crowd) == [crowd[7], crowd[8], *crowd[:7], *crowd[9:KNOWN]]


HERE, THERE = Address("here", 6379), Address("there", 6379)


@pytest.mark.parametrize(
    ("answers", "primary"),
    [
        ([(HERE, 1)], HERE),
        ([(THERE, 1), (HERE, 2)], HERE),
        ([(THERE, 1), (THERE, 1), (HERE, 2)], HERE),  # told of a failover before the others
        ([(THERE, 1), (HERE, 1), (HERE, 1)], HERE),
        ([(THERE, -1), (HERE, -1), (HERE, -1)], HERE),  # of users that may not ask for epochs
        ([(THERE, -1), (THERE, -1), (HERE, 0)], HERE),
        ([(THERE, 1), (HERE, 1)], None),
        ([(THERE, -1), (HERE, -1)], None),
    ],
)
def test_the_latest_configuration_counts_then_the_most_sentinels(
    answers: list[tuple[Address, int]], primary: Address | None
) -> None:
    def of(order: Sequence[tuple[Address, int]]) -> Address | None:
        try:
            return latest([Answer(*answer) for answer in order])
        except Disagreement:
            return None

    assert {of(order) for order in permutations(answers)} == {primary}


def test_while_sentinels_disagree_nobody_decides(group: SentinelGroup) -> None:
    """Two that never heard of each other, as no failover can make them: a connection that there is is given up too."""
    url, replaced = group.url.replace("/limits", "/twice"), []
    for sentinel, primary in zip(group.sentinels, (group.primary, group.start()), strict=False):
        group.ask(sentinel, "SENTINEL", "MONITOR", "twice", "127.0.0.1", primary, 2)
    store = store_at(url)
    assert why(store).startswith("the sentinels disagree whether 127.0.0.1:")
    subject = Sentinels(Servers(url, 5), lambda: replaced.append("told"), watch_seconds=0.01)
    with pytest.raises(Disagreement):
        subject.connect()
    eventually(lambda: gevent.sleep(0.01) or bool(replaced))
    group.ask(group.sentinels[1], "SENTINEL", "REMOVE", "twice")
    eventually(store.ping)
    group.ask(group.sentinels[0], "SENTINEL", "REMOVE", "twice")


def test_a_failover_by_order_is_told_and_followed_at_once(group: SentinelGroup) -> None:
    """Within the day after which the sentinels would be asked again."""
    replaced: list[str] = []
    subject = Sentinels(Servers(group.url, 5), lambda: replaced.append("told"), watch_seconds=24 * 3600)
    before = group.primary
    subject.connect().disconnect()
    subject._hinted.set()  # its first look, with which it begins to listen
    eventually(lambda: gevent.sleep(0.01) or all(listens(group, sentinel) for sentinel in group.sentinels))
    assert replaced == []
    group.ask(group.sentinels[1], "SENTINEL", "FAILOVER", MASTER)
    eventually(lambda: gevent.sleep(0.01) or bool(replaced))
    connection = subject.connect()
    assert connection.port == group.replica
    connection.disconnect()
    group.primary, group.replica = group.replica, before
    group.ask(before, "REPLICAOF", "127.0.0.1", group.primary)  # what the sentinels do ten seconds later

    eventually(lambda: {group.named_by(sentinel) for sentinel in group.sentinels} == {group.primary})


def listens(group: SentinelGroup, sentinel: int) -> bool:
    return f" sub={len(CHANNELS)} " in group.ask(sentinel, "CLIENT", "LIST")


def test_sentinels_that_the_url_does_not_name_are_remembered(group: SentinelGroup) -> None:
    """The last test with this group: it ends two of its servers."""
    named, _, others = group.url.partition(",")
    store = store_at(f"{named}/{others.partition('/')[2]}")
    assert store.ping()
    for port in (group.sentinels[0], group.primary):
        group.servers[port].kill()
    eventually(store.ping, seconds=40)
