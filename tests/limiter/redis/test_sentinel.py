"""Finding the primary through real sentinels."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator, Sequence
from itertools import permutations
from pathlib import Path

import gevent
import pytest
from redis.exceptions import ConnectionError

from app.limiter.errors import StoreUnavailable
from app.limiter.redis import sentinel_events
from app.limiter.redis.endpoint import Address, RedisEndpoint
from app.limiter.redis.sentinel import KNOWN, Disagreement, SentinelReply, Sentinels, latest, remembered
from app.limiter.redis.sentinel_events import CHANNELS, SentinelEvents
from app.limiter.redis.store import RedisStore, connect
from app.rules.rule import Limit
from tests.limiter.redis.test_store import charge
from tests.support.acl import PASSWORD
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
    assert f"127.0.0.1:{group.replica} is not a primary" in why(store_at(group.url.replace("/limits", "/stale")))
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
            return latest([SentinelReply(*answer) for answer in order])
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
    subject = Sentinels(RedisEndpoint(url, 5), lambda: replaced.append("given up"), watch_seconds=0.01)
    with pytest.raises(Disagreement):
        subject.connect()
    eventually(lambda: gevent.sleep(0.01) or bool(replaced))
    group.ask(group.sentinels[1], "SENTINEL", "REMOVE", "twice")
    eventually(store.ping)
    group.ask(group.sentinels[0], "SENTINEL", "REMOVE", "twice")


def test_a_majority_that_knows_less_than_was_heard_before_does_not_end_the_asking(group: SentinelGroup) -> None:
    """One has heard of a failover before the others; here they do not say their epochs, so that theirs are lower."""
    *behind, ahead = group.sentinels
    for sentinel in group.sentinels:
        group.ask(sentinel, "ACL", "SETUSER", "reader", "on", f">{PASSWORD}", "+@all")
    url = group.url.replace("/limits", f"/late?sentinel_username=reader&sentinel_password={PASSWORD}")
    subject = Sentinels(RedisEndpoint(url, 5), lambda: None)
    group.ask(ahead, "SENTINEL", "MONITOR", "late", "127.0.0.1", group.primary, 9)
    assert subject._named().port == group.primary
    for sentinel in behind:
        group.ask(sentinel, "ACL", "SETUSER", "reader", "-sentinel|master")
        group.ask(sentinel, "SENTINEL", "MONITOR", "late", "127.0.0.1", 1, 9)
    assert {subject._named().port for _ in range(5)} == {group.primary}
    for sentinel in group.sentinels:
        group.ask(sentinel, "SENTINEL", "REMOVE", "late")
    with pytest.raises(ConnectionError):
        subject._named()


def test_a_primary_that_cannot_be_connected_to_is_told_of_once(group: SentinelGroup) -> None:
    """Else its breaker would be probed at each look. While nobody can be told, as its breaker is closed, it is told
    again."""
    sentinel, given_up, told = group.sentinels[0], [], []
    url = f"redis+sentinel://127.0.0.1:{sentinel}/away"

    def replaced() -> bool:
        told.append(len(given_up))
        return len(told) > 1

    subject = Sentinels(RedisEndpoint(url, 5), lambda: given_up.append("once more"), replaced, watch_seconds=0.01)
    for port, times in ((1, 2), (2, 3)):
        group.ask(sentinel, "SENTINEL", "MONITOR", "away", "127.0.0.1", port, 9)
        with pytest.raises(ConnectionError):
            subject.connect()
        looks = len(given_up)
        eventually(lambda looks=looks: gevent.sleep(0.01) or len(given_up) >= looks + 5)
        assert len(told) == times
        group.ask(sentinel, "SENTINEL", "REMOVE", "away")


def test_a_user_that_may_not_listen_tries_ever_more_rarely(
    group: SentinelGroup, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sentinel_events, "FIRST_WAIT_SECONDS", 0.02)
    caplog.set_level("DEBUG", sentinel_events.__name__)
    group.ask(group.sentinels[0], "ACL", "SETUSER", "deaf", "on", f">{PASSWORD}", "&*", "+@all", "-subscribe")
    account = f"sentinel_username=deaf&sentinel_password={PASSWORD}"
    subject = SentinelEvents(RedisEndpoint(f"{group.url}?{account}", 5), lambda: None)
    subject.follow([Address("127.0.0.1", group.sentinels[0])])

    def refused() -> list[float]:
        return [record.created for record in caplog.records if "no permissions" in record.getMessage()]

    with gevent.Timeout(30):
        while len(refused()) < 6:
            gevent.sleep(0.01)
    subject.follow([])
    assert refused()[5] - refused()[0] > 0.4  # 620 ms of waits; were they all like the first, 100 ms


def test_a_failover_by_order_is_told_and_followed_at_once(group: SentinelGroup) -> None:
    """Within the day after which the sentinels would be asked again."""
    replaced: list[str] = []
    subject = Sentinels(RedisEndpoint(group.url, 5), lambda: replaced.append("told"), watch_seconds=24 * 3600)
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
