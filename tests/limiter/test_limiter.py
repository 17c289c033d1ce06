"""The fallback and the outright rules, on a Redis that is not there."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from app.limiter.compiled_rule import Charge, CompiledRule
from app.limiter.decision import Check, Decision
from app.limiter.errors import NotReady, Unavailable
from app.limiter.fallback.fallback_log import CALM_SECONDS
from app.limiter.fallback.local_store import LocalStore
from app.limiter.keys import Keyspace
from app.limiter.limiter import Limiter
from app.limiter.redis.connection import RedisConnection
from app.limiter.redis.socket import RedisSocket
from app.limiter.redis.store import RedisStore, connect
from app.observability.active_clients import ActiveClients
from app.rules.rule import Limit, Rule, default_rule
from app.rules.rule_book import RuleBook, Snapshot
from app.rules.sync.yielding import unpaced
from devstack import Valkey
from tests.support.limiters import limiter_of


@dataclass
class Fixed:
    book: RuleBook | None


def limiter(store: RedisStore, *rules: Rule, fail_mode: str = "open", ready: bool = True) -> Limiter:
    snapshot = Snapshot(1, b"secret", rules)
    book = RuleBook(snapshot, default=default_rule(100, 60), algorithm="token_bucket")
    return limiter_of(Fixed(book if ready else None), store, fail_mode=fail_mode)


def rule(client_id: str, **fields: object) -> Rule:
    return Rule(**{"id": 7, "client_id": client_id, "limits": (Limit(40, 60),), **fields})  # type: ignore[arg-type]


@pytest.fixture
def nowhere(tmp_path: Path) -> RedisStore:
    return RedisStore(connect(f"unix://{tmp_path}/nobody.sock", timeout_ms=50, clock=time.monotonic))


def decided(answer: Decision | Unavailable) -> Decision:
    assert isinstance(answer, Decision)
    return answer


def test_open_allows_and_shows_the_rules_own_numbers(nowhere: RedisStore) -> None:
    subject = limiter(nowhere, rule("a", limits=(Limit(40, 60), Limit(10, 1))))
    for _ in range(5):  # before the breaker opens and after
        decision = decided(subject.check([(1, Check("a"))])[0])
        assert (decision.allowed, decision.degraded, decision.reason) == (True, True, "degraded")
        assert (decision.outcome.remaining, decision.most_at_once, decision.retry_after_us) == (10, 10, 0)


def test_closed_refuses_and_says_when_to_come_back(nowhere: RedisStore) -> None:
    subject = limiter(nowhere, fail_mode="closed")
    waits = [answer.retry_after_seconds for _ in range(4) for answer in subject.check([(1, Check("a"))])]  # type: ignore[union-attr]
    assert waits[0] == 1
    assert 54 <= waits[3] <= 66


def test_local_enforces_this_workers_share(nowhere: RedisStore) -> None:
    subject = limiter(nowhere, rule("a", fail_mode="local"), rule("b", id=8, fail_mode="local", limits=(Limit(1, 60),)))
    admitted = [decided(subject.check([(1, Check("a"))])[0]).allowed for _ in range(15)]
    assert admitted == [True] * 10 + [False] * 5
    assert decided(subject.check([(1, Check("b"))])[0]).allowed  # at least one unit each
    beyond = decided(subject.check([(1, Check("a", cost=11))])[0])
    assert (beyond.allowed, beyond.retry_after_us, beyond.degraded) == (False, None, True)
    assert (beyond.most_at_once, beyond.reason) == (10, "cost_exceeds_limit")  # the share's numbers, not the rule's


def test_a_share_of_a_limit_is_one_of_its_burst_too() -> None:
    local = LocalStore(holders=4)
    for burst, most in ((20, 5), (3, 1)):
        compiled = CompiledRule(rule("*", limits=(Limit(40, 60, "gcra", burst),)))
        assert local.check(Charge(compiled, b"a", 0), 10**15)[1].remaining == most


def test_a_long_log_is_counted_locally_not_logged() -> None:
    local = LocalStore(holders=1)
    short, long = (CompiledRule(rule("*", id=n, limits=(Limit(n, 60, "sliding_window"),))) for n in (1_000, 1_001))
    assert local.check(Charge(short, b"a", 1), 10**15)[0].rule.limits[0].algorithm == "sliding_window"
    assert local.check(Charge(long, b"a", 1), 10**15)[0].rule.limits[0].algorithm == "sliding_window_counter"


def test_the_rules_fail_mode_wins_and_one_batch_may_mix_them(nowhere: RedisStore) -> None:
    subject = limiter(nowhere, rule("a", fail_mode="closed"), rule("b", id=8))
    closed, opened = subject.check([(1, Check("a")), (1, Check("b"))])
    assert isinstance(closed, Unavailable)
    assert decided(opened).allowed


def test_allow_and_block_need_no_redis_and_count_nothing(nowhere: RedisStore) -> None:
    subject = limiter(nowhere, rule("vip", action="allow", limits=()), rule("bad", id=8, action="block"))
    allow, block = (decided(answer) for answer in subject.check([(1, Check("vip", cost=10**9)), (1, Check("bad"))]))
    assert (allow.allowed, allow.retry_after_us, allow.reason, allow.degraded) == (True, 0, "allowed_by_rule", False)
    assert (block.allowed, block.retry_after_us, block.reason, block.outcome.remaining) == (
        False,
        None,
        "blocked_by_rule",
        0,
    )


def test_a_shadow_rule_is_decided_beside_the_enforcing_one_and_never_enforced(store: RedisStore) -> None:
    client = f"shadowed {time.time_ns()}"
    shadow = rule(client, id=9, shadow=True, limits=(Limit(1, 3600),))
    subject = limiter(store, rule(client, limits=(Limit(2, 3600),)), shadow)
    answers = [decided(subject.check([(1, Check(client))])[0]) for _ in range(3)]
    assert [(answer.allowed, answer.reason) for answer in answers] == [
        (True, "within_limit"),
        (True, "shadow"),
        (False, "over_limit"),
    ]


def test_a_shadow_rule_is_charged_under_the_request_id_too_and_once(store: RedisStore) -> None:
    client = f"shadowed {time.time_ns()}"
    shadow = rule(client, id=9, shadow=True, limits=(Limit(1, 3600),))
    subject = limiter(store, rule(client), shadow)
    checks = [(1, Check(client, request_id=request_id)) for request_id in ("a", "a", "b")]
    reasons = [decided(subject.check([check])[0]).reason for check in checks]
    assert reasons == ["within_limit", "within_limit", "shadow"]


def test_beside_a_shadow_rule_that_blocks_a_degraded_answer_still_says_so(nowhere: RedisStore) -> None:
    subject = limiter(nowhere, rule("a"), rule("a", id=8, shadow=True, action="block"))
    assert decided(subject.check([(1, Check("a"))])[0]).reason == "degraded"


def test_a_fallback_is_logged_when_it_begins_and_when_it_is_over(
    valkey: Valkey, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "app.limiter.fallback.fallback_log")
    now = [1000.0]
    store = RedisStore(connect(valkey.url, timeout_ms=1000, clock=time.monotonic))
    book = RuleBook(Snapshot(1, b"secret", ()), default=default_rule(100, 60), algorithm="token_bucket")
    subject = limiter_of(Fixed(book), store, clock=lambda: now[0])
    os.kill(valkey.pid, signal.SIGSTOP)
    try:
        assert all(decided(answer).degraded for answer in subject.check([(1, Check("a"))] * 10))
    finally:
        os.kill(valkey.pid, signal.SIGCONT)
    assert any(store.ping() for _ in range(100))
    now[0] += CALM_SECONDS
    assert not decided(subject.check([(1, Check("a"))])[0]).degraded
    began, over = caplog.messages
    assert began.startswith("Redis does not decide all checks; instead fail_mode open decides: Timeout")
    assert over == "Redis decides all checks again"


def test_without_any_rules_nothing_is_decided(nowhere: RedisStore) -> None:
    with pytest.raises(NotReady):
        limiter(nowhere, ready=False).check([(1, Check("a"))])


def test_the_local_table_is_bounded() -> None:
    local = LocalStore(holders=1, max_counters=3)
    compiled = CompiledRule(rule("*", limits=(Limit(1, 3600, "fixed_window"),)))
    admitted = [
        local.check(Charge(compiled, name, 1), 10**15)[1].allowed for name in (b"a", b"b", b"c", b"a", b"d", b"b", b"a")
    ]
    # The denial touched "a" too: "d" pushed "b" out, and then "b" pushed "c".
    assert admitted == [True, True, True, False, True, True, False]


def test_active_clients_are_estimated_and_forgotten_after_a_minute() -> None:
    now = [5.0]
    active = ActiveClients(lambda: now[0])
    keyspace = Keyspace(b"secret")
    for number in range(20_000):
        for _ in range(2):
            active.add([keyspace.client(1, f"client {number}")])
    assert abs(active.estimate(unpaced) - 20_000) < 600
    now[0] += 62
    assert active.estimate(unpaced) == 0


@pytest.mark.parametrize("fail_mode", ["open", "closed", "local"])
def test_beyond_the_callers_that_may_wait_a_worker_refuses_at_once(fail_mode: str) -> None:
    """In every fail_mode: its own load says nothing of Redis, and must admit nobody."""

    def connect() -> RedisSocket:
        raise AssertionError("nobody waits, so nobody connects")

    full = RedisConnection(connect=connect, timeout_seconds=60, max_waiting=0, clock=time.monotonic)
    [answer] = limiter(RedisStore(full), fail_mode=fail_mode).check([(1, Check("a"))])
    assert isinstance(answer, Unavailable)
    assert answer.retry_after_seconds == 1
