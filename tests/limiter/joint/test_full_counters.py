"""A full shared counter is known at once for all clients that need it, as long as it is full and no longer."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest

from app.api.check.encoding import Encoder
from app.limiter.compiled_rule import Charge, ChargeRecord, CompiledRule
from app.limiter.decision import Check, Decision, Outcome
from app.limiter.joint.full_counters import FullCounters
from app.limiter.joint.joint_rule import joined
from app.limiter.limiter import Limiter
from app.limiter.redis.store import RedisStore
from app.rules.rule import Limit
from tests.support.clock import Clock
from tests.support.layered import book, decided, limiter, rule

A, B, ORG, OTHER = (b"rl:{%022d}" % number for number in range(4))
OWN = CompiledRule(rule(7, "*"))
LIMITS = (Limit(5, 60, "gcra", counter=1), Limit(9, 60, "gcra", counter=2))
OF_ORG = CompiledRule(rule(20, group="org:*", layer="org", shared=True, limits=LIMITS))
JOINT, ALONE = joined([OWN, OF_ORG], (0, 1)), joined([OF_ORG], (1,))
FULL = Outcome(False, 2, 0, 400_000, 5_000_000, 7_000_000)  # the second limit of the group


@pytest.fixture
def clock() -> Clock:
    return Clock()


def charge(client: bytes = A, org: bytes = ORG, cost: int = 1, record: ChargeRecord | None = None) -> Charge:
    return Charge(JOINT, client, cost, record, (client, org))


def test_a_full_counter_denies_every_client_that_needs_it(clock: Clock) -> None:
    subject = FullCounters(clock)
    assert not subject.any()
    subject.keep(charge(), FULL, asked_at=100.0)
    assert subject.any()
    clock.now = 100.25
    for asked in (charge(B), charge(A), Charge(ALONE, B, 1, None, (B, ORG))):
        denial = subject.denial(asked)
        assert denial is not None
        assert (denial.compiled, denial.outcome.binding, denial.joint) == (OF_ORG, 1, asked.compiled)
        assert (denial.retry_after_us, denial.repeats, denial.reason) == (150_000, 0, "over_limit")
    assert subject.denial(charge(B, OTHER)) is None
    assert subject.denial(Charge(OWN, A, 1)) is None
    clock.now = 100.4
    assert subject.denial(charge(B)) is None
    assert not subject.any()


def test_it_ends_after_a_second_and_counts_from_when_the_question_was_sent(clock: Clock) -> None:
    subject = FullCounters(clock)
    subject.keep(charge(), Outcome(False, 1, 0, 60_000_000, 60_000_000, 7_000_000), asked_at=99.5)
    clock.now = 100.49
    assert subject.denial(charge(B)) is not None
    clock.now = 100.5
    assert subject.denial(charge(B)) is None


@pytest.mark.parametrize(
    ("asked", "outcome"),
    [
        (charge(cost=2), FULL),
        (charge(record=ChargeRecord(b":Q:r", b"")), FULL),
        (charge(), Outcome(False, 0, 0, 400_000, 5_000_000, 7_000_000)),  # the client's own
        (charge(), Outcome(False, 1, 1, 400_000, 5_000_000, 7_000_000)),
        (charge(), Outcome(False, 1, 0, None, 5_000_000, 7_000_000)),
        (charge(), Outcome(True, 1, 0, 0, 5_000_000, 7_000_000)),
        (Charge(OWN, A, 1), Outcome(False, 0, 0, 400_000, 5_000_000, 7_000_000)),
    ],
)
def test_other_outcomes_say_nothing_of_a_shared_counter(clock: Clock, asked: Charge, outcome: Outcome) -> None:
    subject = FullCounters(clock)
    subject.keep(asked, outcome, asked_at=100.0)
    assert not subject.any()


def test_of_two_full_counters_the_longer_wait_is_told_and_an_edited_rule_has_none(clock: Clock) -> None:
    subject = FullCounters(clock)
    for binding, wait_us in ((1, 700_000), (2, 400_000)):
        subject.keep(charge(), Outcome(False, binding, 0, wait_us, 5_000_000, 7_000_000), asked_at=100.0)
    denial = subject.denial(charge(B))
    assert denial is not None
    assert (denial.outcome.binding, denial.retry_after_us) == (0, 700_000)
    edited = joined([OWN, CompiledRule(OF_ORG.rule)], (0, 1))
    assert subject.denial(Charge(edited, B, 1, None, (B, ORG))) is None
    subject.clear()
    assert subject.denial(charge(B)) is None


def test_their_number_is_bounded_and_the_oldest_goes(clock: Clock) -> None:
    subject = FullCounters(clock, max_counters=2)
    for org in (ORG, OTHER, B):
        subject.keep(charge(org=org), FULL, asked_at=100.0)
    assert [subject.denial(charge(org=org)) is not None for org in (ORG, OTHER, B)] == [False, True, True]


class Counted:
    """Counts what the store is asked."""

    spans = False

    def __init__(self, store: RedisStore) -> None:
        self._store = store
        self.asked = 0

    def check(self, charges: Sequence[Charge]) -> list[object]:
        self.asked += len(charges)
        return list(self._store.check(charges))


SHARED = (Limit(2, 3600, "fixed_window"),)


def flooded(store: RedisStore, clock: Clock, *rules: object) -> tuple[Limiter, Counted]:
    """A limiter after three checks of one client beyond the group's limit of two."""
    counted = Counted(store)
    org = rule(20, group="org:*", layer="org", shared=True, limits=SHARED)
    subject, _ = limiter(counted, org, *rules, clock=clock)  # type: ignore[arg-type]
    assert [each.allowed for each in decided(subject, *[in_org("first")] * 3)] == [True, True, False]
    counted.asked = 0
    return subject, counted


def in_org(client_id: str, **fields: object) -> Check:
    return Check(client_id, **{"groups": ("org:7",)} | fields)  # type: ignore[arg-type]


def test_a_flood_of_clients_beyond_a_common_limit_asks_redis_nothing(store: RedisStore, clock: Clock) -> None:
    subject, counted = flooded(store, clock)
    clock.now += 0.5
    flood = decided(subject, *[in_org(f"client {number}") for number in range(100)])
    assert counted.asked == 0
    assert {(each.allowed, each.compiled.rule.id, each.outcome.remaining) for each in flood} == {(False, 20, 0)}
    others = [in_org("p", cost=0), in_org("i", request_id="i"), in_org("c", cost=2), in_org("o", groups=("org:8",))]
    decisions = decided(subject, in_org("x"), *others, in_org("y"))
    assert counted.asked == len(others)
    assert [each.allowed for each in decisions] == [False, True, False, False, True, False]
    clock.now += 0.6
    decided(subject, in_org("later"))
    assert counted.asked == len(others) + 1


def test_a_tenant_without_layers_asks_redis_meanwhile(store: RedisStore, clock: Clock) -> None:
    subject, counted = flooded(store, clock, rule(8, "*", tenant_id=2, limits=(Limit(1, 3600, "gcra"),)))
    asked = [(2, in_org("a")), (1, in_org("b")), (2, in_org("c")), (2, in_org("a"))]
    answers = [answer for answer in subject.check(asked) if isinstance(answer, Decision)]
    assert [(each.allowed, each.compiled.rule.id) for each in answers] == [
        (True, 8),
        (False, 20),
        (True, 8),
        (False, 8),
    ]
    assert counted.asked == 3


def test_a_shadow_rule_sees_every_check_of_the_flood(store: RedisStore, clock: Clock) -> None:
    subject, counted = flooded(store, clock, rule(9, "*", shadow=True))
    decided(subject, in_org("a"), in_org("b"))
    assert counted.asked == 4


def test_new_rules_forget_it(store: RedisStore, clock: Clock) -> None:
    subject, counted = flooded(store, clock)
    before = subject._rules.book
    assert before is not None
    org = rule(20, group="org:*", layer="org", shared=True, limits=SHARED)
    subject._rules.book = book(org, secret=before.ruleset_id.key_secret, previous=before)  # type: ignore[misc]
    assert not decided(subject, in_org("a"))[0].allowed
    assert counted.asked == 1


def test_its_answer_is_that_of_redis_with_less_time_to_wait(store: RedisStore, clock: Clock) -> None:
    subject, counted = flooded(store, clock)
    encoder = Encoder("draft-10", 60)
    [fresh] = decided(subject, in_org("a", request_id="fresh"))
    asked = itertools.count(counted.asked)
    [known] = decided(subject, in_org("b"))
    assert counted.asked == next(asked)
    assert isinstance(known, Decision)
    for decision in (fresh, known):
        head = encoder.head(decision).decode()
        assert '"20";q=2;w=3600, "default";q=100;w=3600' in head
        assert 'RateLimit: "20";r=0;' in head
    assert encoder.members(known) | {"retry_after_ms": 0} == encoder.members(fresh) | {"retry_after_ms": 0}
