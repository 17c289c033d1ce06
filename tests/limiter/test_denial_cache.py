"""Remembered denials: true as long as they are told, and no longer."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.limiter.algorithms import decide
from app.limiter.compiled_rule import Charge, ChargeRecord, CompiledRule
from app.limiter.decision import Check, Decision, Outcome, Question
from app.limiter.denial_cache import DenialCache
from app.limiter.limiter import Limiter
from app.limiter.redis.store import RedisStore
from app.rules.rule import ALGORITHMS, Limit, Rule, default_rule
from app.rules.rule_book import RuleBook, Snapshot
from tests.support.clock import Clock
from tests.support.limiters import limiter_of

PLAN = CompiledRule(Rule(id=1, client_id="*", limits=(Limit(5, 60, "gcra"),)))
CHARGE = Charge(PLAN, b"client", 1)
QUESTION = (1, Check("client"))


@pytest.fixture
def clock() -> Clock:
    return Clock()


def denial(retry_after_us: int | None = 400_000, remaining: int = 0) -> Outcome:
    return Outcome(False, 0, remaining, retry_after_us, 5_000_000, 7_000_000)


def repeated(cache: DenialCache, question: Question = QUESTION) -> Decision | None:
    found = cache.among([(9, Check("never asked")), question])
    return found.get(1)


def test_a_denial_is_repeated_counting_down_until_its_retry_time(clock: Clock) -> None:
    cache = DenialCache(clock)
    cache.keep(QUESTION, CHARGE, denial(), asked_at=100.0)
    clock.now = 100.25
    decision = repeated(cache)
    assert decision is not None
    assert (decision.allowed, decision.reason, decision.outcome.remaining) == (False, "over_limit", 0)
    assert (decision.retry_after_us, decision.reset_after_us, decision.reset_at_us) == (150_000, 4_750_000, 12_000_000)
    clock.now = 100.3995
    decision = repeated(cache)
    assert decision is not None
    assert 1 <= (decision.retry_after_us or 0) <= 501
    clock.now = 100.4
    assert repeated(cache) is None


def test_it_ends_by_when_the_question_was_sent_and_shows_times_by_when_the_answer_came(clock: Clock) -> None:
    cache = DenialCache(clock)
    cache.keep(QUESTION, CHARGE, denial(), asked_at=99.7)  # the trip took 300 of the 400 ms
    clock.now = 100.09
    decision = repeated(cache)
    assert decision is not None
    assert decision.retry_after_us == 310_000
    clock.now = 100.11
    assert repeated(cache) is None


@settings(deadline=None)
@given(
    algorithm=st.sampled_from(ALGORITHMS),
    rate=st.integers(1, 2000),
    window=st.integers(1, 100),
    burst=st.none() | st.integers(1, 3000),
    costs=st.lists(st.integers(1, 2500), min_size=1, max_size=6),
    cost=st.integers(1, 2500),
    age=st.floats(0, 1),
)
def test_a_denial_of_any_cost_is_repeated_only_while_it_is_true(
    algorithm: str, rate: int, window: int, burst: int | None, costs: list[int], cost: int, age: float
) -> None:
    limits = (Limit(rate, window, algorithm, burst),)
    compiled, states, now_us = CompiledRule(Rule(id=1, client_id="*", limits=limits)), [None], 10**15
    for charged in costs:
        changed, _ = decide(states, limits, charged, now_us)
        states, now_us = changed or states, now_us + 137
    _, outcome = decide(states, limits, cost, now_us)
    clock, question = Clock(), (1, Check("client", cost=cost))
    cache = DenialCache(clock)
    cache.keep(question, Charge(compiled, b"client", cost), outcome, asked_at=clock.now)
    clock.now += age
    told = repeated(cache, question)
    if told is not None:
        _, asked = decide(states, limits, cost, now_us + int(age * 1_000_000))
        assert (told.allowed, told.outcome.remaining) == (asked.allowed, asked.remaining)
        assert told.retry_after_us is not None
        assert asked.retry_after_us is not None
        assert abs(told.retry_after_us - asked.retry_after_us) <= 1


@pytest.mark.parametrize("algorithm", ["token_bucket", "gcra", "fixed_window"])
def test_a_denial_of_many_units_is_repeated(clock: Clock, algorithm: str) -> None:
    compiled = CompiledRule(Rule(id=1, client_id="*", limits=(Limit(10, 3600, algorithm),)))
    cache, question = DenialCache(clock), (1, Check("client", cost=5))
    outcome = Outcome(False, 0, 2, 1_000_000_000, 2_800_000_000, 7_000_000)
    cache.keep(question, Charge(compiled, b"client", 5), outcome, asked_at=100.0)
    assert repeated(cache, question) is None  # a cheaper check may change what remains
    outcome = Outcome(False, 0, 0, 1_800_000_000, 3_600_000_000, 7_000_000)
    cache.keep(question, Charge(compiled, b"client", 5), outcome, asked_at=100.0)
    clock.now = 100.9
    assert repeated(cache, question) is not None
    clock.now = 101.1
    assert repeated(cache, question) is None


def test_while_redis_cannot_decide_the_last_denial_holds_for_all_its_wait_and_higher_costs(clock: Clock) -> None:
    cache = DenialCache(clock)
    cache.keep(QUESTION, Charge(PLAN, b"client", 3), denial(60_000_000, remaining=2), asked_at=100.0, repeat=False)
    clock.now = 159.0
    assert repeated(cache) is None
    for cost, denied in ((1, False), (2, False), (3, True), (100, True)):
        assert (cache.still(Charge(PLAN, b"client", cost)) is not None) == denied
    outcome = cache.still(Charge(PLAN, b"client", 3))
    assert outcome is not None
    assert (outcome.allowed, outcome.retry_after_us, outcome.now_us) == (False, 1_000_000, 66_000_000)
    assert cache.still(Charge(PLAN, b"another", 3)) is None
    assert cache.still(Charge(CompiledRule(PLAN.rule), b"client", 3)) is None  # the rule was edited
    clock.now = 160.0
    assert cache.still(Charge(PLAN, b"client", 3)) is None


def test_a_denial_of_a_greater_cost_does_not_hide_that_of_a_lower_one(clock: Clock) -> None:
    cache = DenialCache(clock)
    for cost, wait_us in ((2, 5_000_000), (4, 9_000_000)):
        cache.keep(QUESTION, Charge(PLAN, b"client", cost), denial(wait_us, remaining=1), asked_at=100.0)
    assert cache.still(Charge(PLAN, b"client", 2)) is not None
    clock.now = 106.0
    cache.keep(QUESTION, Charge(PLAN, b"client", 4), denial(3_000_000, remaining=1), asked_at=106.0)
    assert cache.still(Charge(PLAN, b"client", 4)) is not None


def test_no_denial_is_repeated_for_more_than_a_second(clock: Clock) -> None:
    cache = DenialCache(clock)
    cache.keep(QUESTION, CHARGE, denial(retry_after_us=60_000_000), asked_at=100.0)
    clock.now = 100.99
    assert repeated(cache) is not None
    clock.now = 101.0
    assert repeated(cache) is None


@pytest.mark.parametrize(
    "outcome",
    [denial(remaining=1), denial(retry_after_us=None), Outcome(True, 0, 0, 0, 1, 1)],
    ids=["something remains", "waiting never helps", "allowed"],
)
def test_other_outcomes_are_not_kept(clock: Clock, outcome: Outcome) -> None:
    cache = DenialCache(clock)
    cache.keep(QUESTION, CHARGE, outcome, asked_at=100.0)
    assert repeated(cache) is None


def test_a_denial_under_a_request_id_is_not_kept(clock: Clock) -> None:
    cache = DenialCache(clock)
    question = (1, Check("client", request_id="r"))
    cache.keep(question, Charge(PLAN, b"client", 1, ChargeRecord(b":q:r", b"m")), denial(), asked_at=100.0)
    assert repeated(cache, question) is None


def test_another_cost_client_key_or_tenant_is_another_question(clock: Clock) -> None:
    cache = DenialCache(clock)
    cache.keep(QUESTION, CHARGE, denial(), asked_at=100.0)
    others = [Check("client", cost=2), Check("other"), Check("client", "login"), Check("client", request_id="r")]
    for other in [*((1, check) for check in others), (2, Check("client"))]:
        assert repeated(cache, other) is None


def test_each_ends_in_its_own_time_and_nothing_stays_behind(clock: Clock) -> None:
    cache, brief = DenialCache(clock), (1, Check("brief"))
    cache.keep(QUESTION, CHARGE, denial(400_000), asked_at=100.0)
    cache.keep(brief, CHARGE, denial(100_000), asked_at=100.0)
    clock.now = 100.2
    assert repeated(cache, brief) is None
    assert repeated(cache) is not None
    clock.now = 100.4
    assert not cache.among([(1, Check("somebody else"))])
    clock.now = 100.0  # only what was forgotten stays so
    assert repeated(cache) is None


def test_the_memory_is_bounded_and_the_oldest_go_first(clock: Clock) -> None:
    cache = DenialCache(clock, max_denials=2)
    questions = [(1, Check(name)) for name in ("a", "b", "c")]
    for question in questions:
        cache.keep(question, CHARGE, denial(), asked_at=100.0)
    assert [repeated(cache, question) is not None for question in questions] == [False, True, True]


class CountingStore(RedisStore):
    trips = 0
    before_reply: Callable[[], None] | None = None

    def check(self, charges, now_us=None):  # type: ignore[no-untyped-def]
        self.trips += 1
        outcomes = super().check(charges, now_us)
        if self.before_reply:
            self.before_reply()
        return outcomes


class Rules:
    def __init__(self, *rules: Rule) -> None:
        self.change(*rules)

    def change(self, *rules: Rule) -> None:
        self.book = RuleBook(Snapshot(1, b"secret", rules), default=default_rule(100, 60), algorithm="fixed_window")


def subject(store: RedisStore, rules: Rules) -> tuple[Limiter, CountingStore]:
    counting = CountingStore(store._connection)
    # The clock stands still: no denial is forgotten by itself.
    limiter = limiter_of(rules, counting, clock=Clock())
    return limiter, counting


def reasons(limiter: Limiter, *checks: Check) -> list[str]:
    return [answer.reason for answer in limiter.check([(1, check) for check in checks]) if isinstance(answer, Decision)]


def rule(client: str, rate: int, **fields: object) -> Rule:
    return Rule(**{"id": rate, "client_id": client, "limits": (Limit(rate, 3600),), **fields})  # type: ignore[arg-type]


def test_the_limiter_asks_redis_once_about_a_client_that_is_over_its_limit(store: RedisStore) -> None:
    client = f"over {time.time_ns()}"
    rules = Rules(rule(client, 1))
    limiter, counting = subject(store, rules)
    assert [reasons(limiter, Check(client))[0] for _ in range(5)] == ["within_limit"] + ["over_limit"] * 4
    assert counting.trips == 2
    assert reasons(limiter, Check(client, cost=0)) == ["within_limit"]  # a peek is asked
    assert counting.trips == 3
    rules.change(rule(client, 1, limits=(Limit(2, 3600),)))
    assert reasons(limiter, Check(client)) == ["within_limit"]  # a change of rules forgets the denial
    assert counting.trips == 4


def test_a_denial_asked_for_before_a_change_of_rules_is_not_kept_after_it(store: RedisStore) -> None:
    client = f"changed {time.time_ns()}"
    rules = Rules(rule(client, 1))
    limiter, counting = subject(store, rules)
    assert reasons(limiter, Check(client)) == ["within_limit"]

    def change_in_the_middle() -> None:
        counting.before_reply = None
        rules.change(rule(client, 1, limits=(Limit(2, 3600),)))
        reasons(limiter, Check("anybody"))  # the limiter follows the change

    counting.before_reply = change_in_the_middle
    assert reasons(limiter, Check(client)) == ["over_limit"]
    assert reasons(limiter, Check(client)) == ["within_limit"]


def test_beside_a_shadow_rule_every_check_is_asked(store: RedisStore) -> None:
    client = f"shadowed {time.time_ns()}"
    limiter, counting = subject(store, Rules(rule(client, 1), rule("*", 2, shadow=True)))
    for _ in range(4):
        reasons(limiter, Check(client))
    assert counting.trips == 4
