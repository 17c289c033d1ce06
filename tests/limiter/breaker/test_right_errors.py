"""Which errors count against Redis, and that all of them go to the fallback, before the breaker opens and after."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from struct import pack

import pytest
import redis

from app.limiter.breaker.breaker import Breaker
from app.limiter.decision import Check, Decision
from app.limiter.errors import Unavailable
from app.limiter.limiter import Limiter
from app.limiter.redis.connection import RedisConnection
from app.limiter.redis.socket import MAX_REPLY_BYTES
from app.limiter.redis.store import RedisStore, connect
from app.rules.rule import default_rule
from app.rules.rule_book import RuleBook, Snapshot
from devstack import Valkey
from tests.support.clock import Clock
from tests.support.limiters import breaker_of, limiter_of
from tests.support.talker import Talker


@dataclass
class Fixed:
    book: RuleBook


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> Breaker:
    return breaker_of(clock)


def limiter(store: RedisStore, breaker: Breaker) -> Limiter:
    book = RuleBook(Snapshot(1, b"secret", ()), default=default_rule(100, 60), algorithm="token_bucket")
    return limiter_of(Fixed(book), store, breaker=breaker)


def degraded(subject: Limiter, checks: int = 1) -> list[bool]:
    """Whether each check of one turn was decided by the fallback."""
    answers = subject.check([(1, Check(f"client {n} of {time.time_ns()}")) for n in range(checks)])
    assert all(isinstance(answer, Decision) for answer in answers)
    return [answer.degraded for answer in answers]  # type: ignore[union-attr]


def store_at(url: str, timeout_ms: int = 5000) -> RedisStore:
    return RedisStore(connect(url, timeout_ms=timeout_ms, clock=time.monotonic))


@pytest.mark.parametrize("refusal", ["LOADING", "READONLY", "CLUSTERDOWN", "MISCONF", "BUSY"])
def test_a_server_that_cannot_serve_has_failed(refusal: str, breaker: Breaker) -> None:
    with Talker(f"-{refusal} for the test\r\n".encode()) as server:
        subject = limiter(store_at(server.url), breaker)
        assert degraded(subject) == [True]
        assert breaker.status().failure_count == 1
        for _ in range(3):
            assert degraded(subject) == [True]
    assert breaker.status().state == "open"
    assert breaker.status().failure_count == 3


def test_a_full_server_has_not_failed(breaker: Breaker) -> None:
    """Callers can fill it: that must not open the breaker, and it still decides what writes nothing."""
    with Talker(b"-OOM for the test\r\n") as server:
        subject = limiter(store_at(server.url), breaker)
        for _ in range(5):
            assert degraded(subject) == [True]
    assert (breaker.status().state, breaker.status().failure_count) == ("closed", 0)


NONSENSE = [
    b"$0\r\n\r\n",  # a conflict of request ids, where none was given
    b"$7\r\nseven..\r\n",
    b"$50\r\n" + b"x" * 50 + b"\r\n",
    b"$32\r\n" + b"\xff" * 32 + b"\r\n",
    b"$32\r\n" + pack("<IIqqq", 9, 1, 0, 1, 1_700_000_000_000_000) + b"\r\n",  # of a limit that is not there
    b"$32\r\n" + pack("<IIqqq", 1, 1, 0, 1, 0) + b"\r\n",  # at no time
    b"$32\r\n" + pack("<IIqqq", 1, 1, 0, -1, 1_700_000_000_000_000) + b"\r\n",
    b"$36\r\n" + b"\0" * 36 + b"\r\n",
    b"*1\r\n$5\r\nshort\r\n",
    b"*3\r\n:1\r\n:2\r\n:3\r\n",
    b"*0\r\n",
    b"$-1\r\n",
    b":1\r\n",
    b"+OK\r\n",
]


@pytest.mark.parametrize("answer", NONSENSE)
@pytest.mark.parametrize("checks", [1, 3])
def test_nonsense_is_no_decision(answer: bytes, checks: int, breaker: Breaker) -> None:
    with Talker(answer) as server:
        assert degraded(limiter(store_at(server.url), breaker), checks) == [True] * checks
    assert (breaker.status().state, breaker.status().failure_count) == ("closed", 0)


def test_an_answer_without_end_is_a_failure(breaker: Breaker) -> None:
    with Talker(b"$500000000\r\n" + b"x" * 2 * MAX_REPLY_BYTES) as server:
        assert degraded(limiter(store_at(server.url, timeout_ms=20_000), breaker)) == [True]
    assert breaker.status().failure_count == 1


@pytest.mark.parametrize("answer", ["MOVED 1 127.0.0.1:7000", "WRONGTYPE not mine", "ERR bad input"])
def test_a_server_that_refuses_this_one_call_has_not(answer: str, breaker: Breaker) -> None:
    with Talker(f"-{answer}\r\n".encode()) as server:
        subject = limiter(store_at(server.url), breaker)
        for _ in range(5):
            assert degraded(subject) == [True]
    assert (breaker.status().state, breaker.status().failure_count) == ("closed", 0)


def test_a_probe_that_meets_only_faults_proves_nothing(breaker: Breaker, clock: Clock) -> None:
    breaker.open()
    clock.now += 66
    with Talker(b"-WRONGTYPE not mine\r\n") as server:
        assert degraded(limiter(store_at(server.url), breaker)) == [True]
    assert breaker.status().state == "half_open"


def test_a_probe_with_one_decision_proves_that_redis_decides(
    store: RedisStore, redis_client: redis.Redis, breaker: Breaker, clock: Clock
) -> None:
    breaker.open()
    clock.now += 66
    redis_client.script_flush()  # and NOSCRIPT is no failure
    assert degraded(limiter(store, breaker), checks=3) == [False] * 3
    assert (breaker.status().state, breaker.status().failure_count) == ("closed", 0)


@pytest.mark.parametrize("refusal", ["READONLY", "NOREPLICAS"])
def test_a_primary_that_was_demoted_or_cut_off_is_left(breaker: Breaker, refusal: str) -> None:
    with Talker(b"-%b for the test\r\n" % refusal.encode()) as server:
        subject = limiter(store_at(server.url), breaker)
        degraded(subject)
        degraded(subject)
        assert server.connections == 2


def test_nobody_at_the_address_is_a_failure(tmp_path: Path, breaker: Breaker) -> None:
    assert degraded(limiter(store_at(f"unix://{tmp_path}/nobody.sock"), breaker)) == [True]
    assert breaker.status().failure_count == 1


def test_a_connection_that_breaks_is_a_failure(breaker: Breaker) -> None:
    with Talker(b"") as server:
        assert degraded(limiter(store_at(server.url), breaker)) == [True]
    assert breaker.status().failure_count == 1


def test_silence_is_one_failure_however_many_checks_it_meets(valkey: Valkey, breaker: Breaker) -> None:
    subject = limiter(store_at(valkey.url, timeout_ms=50), breaker)
    os.kill(valkey.pid, signal.SIGSTOP)
    try:
        assert degraded(subject, checks=20) == [True] * 20
    finally:
        os.kill(valkey.pid, signal.SIGCONT)
    assert breaker.status().failure_count == 1


def test_a_worker_with_too_many_waiting_refuses_and_has_not_met_a_failure(breaker: Breaker) -> None:
    busy = RedisConnection(connect=pytest.fail, timeout_seconds=1, max_waiting=0, clock=time.monotonic)
    subject = limiter(RedisStore(busy), breaker)
    for _ in range(5):
        assert all(isinstance(answer, Unavailable) for answer in subject.check([(1, Check("a"))]))
    assert (breaker.status().state, breaker.status().failure_count) == ("closed", 0)
