"""The clients denied most, through a real Redis: merged, bounded, sealed, and gone after an hour."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pytest
import redis

from app.limiter.denied_clients import BUCKET_SECONDS, BUCKETS, KEPT, SHOWN, DeniedClient, DeniedClients
from app.limiter.errors import StoreUnavailable
from app.limiter.redis.store import RedisStore, connect
from app.rules.rule import Limit, Rule, default_rule
from app.rules.rule_book import RuleBook, Snapshot
from devstack import Valkey
from tests.support.clock import Clock

DEFAULT = default_rule(100, 60)
RULE = Rule(id=7, client_id="*", limits=(Limit(5, 60),))
Worker = Callable[..., DeniedClients]


@pytest.fixture
def clock() -> Clock:
    return Clock(1_795_000_000.0)


@pytest.fixture
def url(valkey: Valkey) -> str:
    """A database of the server that no other test uses."""
    return valkey.url.replace("?db=0", "?db=9")


@pytest.fixture
def database(url: str) -> Iterator[redis.Redis]:
    with contextlib.closing(redis.Redis.from_url(url)) as client:
        client.flushdb()
        yield client


@pytest.fixture
def worker(url: str, database: redis.Redis, clock: Clock) -> Iterator[Worker]:
    """Makes workers of nodes that share a secret."""
    link = connect(url, timeout_ms=20_000, clock=time.monotonic)

    def make(secret: bytes = b"secret") -> DeniedClients:
        book = RuleBook(Snapshot(1, secret, ()), default=DEFAULT, algorithm="gcra")
        return DeniedClients(store=RedisStore(link), rules=SimpleNamespace(book=book), clock=clock)

    yield make
    link.drop()


def deny(worker: DeniedClients, client_id: str, times: int, *, rule: Rule = RULE, tenant_id: int = 1) -> None:
    for _ in range(times):
        worker.denied(tenant_id, client_id, rule)


def test_the_denials_of_all_workers_are_added_up_by_client_and_rule(worker: Worker) -> None:
    first, second = worker(), worker()
    deny(first, "joe@example.com", 3)
    deny(second, "joe@example.com", 4)
    deny(second, "joe@example.com", 2, rule=DEFAULT)
    deny(second, "zoë: *", 5)
    second.flush()
    expected = [
        DeniedClient("joe@example.com", 7, 7),
        DeniedClient("zoë: *", 7, 5),
        DeniedClient("joe@example.com", 0, 2),
    ]
    assert first.most(1) == expected
    assert first.most(1) == expected  # looking counts nothing twice


def test_tenants_see_their_own(worker: Worker) -> None:
    subject = worker()
    deny(subject, "same", 3)
    deny(subject, "same", 4, tenant_id=2)
    assert (subject.most(1), subject.most(2), subject.most(3)) == ([("same", 7, 3)], [("same", 7, 4)], [])


def test_after_an_hour_a_denial_is_forgotten(worker: Worker, clock: Clock, database: redis.Redis) -> None:
    subject = worker()
    deny(subject, "early", 3)
    subject.flush()
    clock.now += 3600
    deny(subject, "late", 1)
    assert [entry.client_id for entry in subject.most(1)] == ["early", "late"]
    clock.now += BUCKET_SECONDS
    assert [entry.client_id for entry in subject.most(1)] == ["late"]
    assert len(list(database.scan_iter("*"))) == 2
    assert all(3600 < database.ttl(key) <= (BUCKETS + 1) * BUCKET_SECONDS for key in database.scan_iter("*"))


def test_memory_is_bounded_and_the_most_denied_stay(worker: Worker, database: redis.Redis) -> None:
    subject = worker()
    for part in range(5):
        for number in range(150):
            deny(subject, f"light {part} {number}", 1)
        deny(subject, "heavy", 100)
        subject.flush()
    [key] = database.scan_iter("*")
    assert database.zcard(key) == KEPT
    most = subject.most(1)
    assert len(most) == SHOWN
    assert most[0] == DeniedClient("heavy", 7, 500)


def test_redis_learns_no_names_and_another_secret_opens_none(worker: Worker, database: redis.Redis) -> None:
    deny(worker(), "joe@example.com", 1)
    subject = worker()
    deny(subject, "joe@example.com", 2)
    subject.flush()
    [key] = database.scan_iter("*")
    [member] = database.zrange(key, 0, -1)
    assert b"joe" not in member
    assert b"example" not in member
    database.zadd(key, {b"": 5, b"of nobody we know, and long enough": 6})
    assert worker().most(1) == [("joe@example.com", 7, 2)]
    assert worker(b"another").most(1) == []


def test_what_an_earlier_release_sealed_is_passed_over(worker: Worker, database: redis.Redis) -> None:
    subject = worker()
    deny(subject, "joe@example.com", 2)
    subject.flush()
    [key] = database.scan_iter("*")
    sealed = bytes.fromhex("c2a626dcc85ad5f583e6821d6d18892e5ce543e406a0927eafb38de1fea6772a8b")
    database.zadd(key, {sealed: 9})
    assert subject.most(1) == [("joe@example.com", 7, 2)]


def test_without_redis_counting_goes_on_and_looking_says_so(clock: Clock) -> None:
    book = RuleBook(Snapshot(1, b"", ()), default=DEFAULT, algorithm="gcra")
    away = RedisStore(connect("redis://127.0.0.1:1", timeout_ms=1000, clock=time.monotonic))
    subject = DeniedClients(store=away, rules=SimpleNamespace(book=book), clock=clock)
    deny(subject, "a", 1)
    subject.flush()
    with pytest.raises(StoreUnavailable):
        subject.most(1)
