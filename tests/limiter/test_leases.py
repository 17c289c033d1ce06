"""Leases on the real server: what is granted is charged at once, and what comes back is as if never charged."""

from __future__ import annotations

from app.limiter.redis_store import RedisStore
from app.rules.rule import Limit
from tests.support.deciders import SECOND, START
from tests.support.leasing import Leaser


def test_a_lease_takes_what_is_there_and_a_return_gives_it_back(store: RedisStore, algorithm: str) -> None:
    subject = Leaser(store, [Limit(10, 60, algorithm)])
    assert subject.check(3, START).allowed
    granted = subject.lease(5, START)
    assert (granted.permits, granted.allowed, granted.remaining, granted.retry_after_us) == (5, True, 2, 0)
    assert subject.lease(5, START).permits == 2
    nothing = subject.lease(5, START)
    assert (nothing.permits, nothing.allowed, nothing.remaining) == (0, False, 0)
    assert nothing.retry_after_us == subject.check(1, START).retry_after_us
    assert subject.give_back(0, 4, START) == 4
    assert subject.remaining(START) == 4
    assert subject.give_back(0, 5, START + 1) == 4
    assert subject.remaining(START) == 4
    assert subject.give_back(2, 1, START) == -1
