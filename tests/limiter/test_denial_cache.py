"""Remembered denials: true as long as they are told, and no longer."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from app.limiter.decision import Check, Decision, Outcome, Question
from app.limiter.denial_cache import DenialCache
from app.limiter.limiter import Limiter
from app.limiter.plan import Charge, Once, Plan
from app.limiter.redis_store import RedisStore
from app.rules.rule import Limit, Rule, default_rule
from app.rules.rule_book import RuleBook, Snapshot
from tests.support.limiters import limiter_of

PLAN = Plan(Rule(id=1, client_id="*", limits=(Limit(5, 60, "gcra"),)))
CHARGE = Charge(PLAN, b"client", 1)
QUESTION = (1, Check("client"))


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


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


def test_checks_of_more_than_one_unit_are_not_kept(clock: Clock) -> None:
    cache = DenialCache(clock)
    question = (1, Check("client", cost=5))
    cache.keep(question, Charge(PLAN, b"client", 5), denial(), asked_at=100.0)
    assert repeated(cache, question) is None


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
    cache.keep(question, Charge(PLAN, b"client", 1, Once(b":q:r", b"m")), denial(), asked_at=100.0)
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
    counting = CountingStore(store._link)
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
