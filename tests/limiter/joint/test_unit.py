"""Charges in several slots, decided step by step in any interleaving. One server stands for all slots."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import astuple

from app.limiter.compiled_rule import Charge, CompiledRule
from app.limiter.decision import Outcome
from app.limiter.errors import RequestIdConflict, StoreBusy, StoreError, StoreUnavailable, Unavailable
from app.limiter.fallback.fallback import Fallback
from app.limiter.joint.parts import ASK, BACK, FINISH, PART, Part, PartOutcome
from app.limiter.joint.unit import Unit
from app.limiter.keys import slot
from app.limiter.redis.store import RedisStore
from app.rules.rule import ALGORITHMS, FAIL_MODES, Limit
from tests.support.deciders import START
from tests.support.examples import examples
from tests.support.joints import apart, charge, compiled, counters, fallback_of, used

EXAMPLES = settings(
    max_examples=examples(60), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
OWN = {algorithm: compiled(800 + n, Limit(3, 3600, algorithm)) for n, algorithm in enumerate(ALGORITHMS)}
ORG = {algorithm: compiled(810 + n, Limit(4, 3600, algorithm), layer="org") for n, algorithm in enumerate(ALGORITHMS)}
ALL = {algorithm: compiled(820 + n, Limit(5, 3600, algorithm), layer="z") for n, algorithm in enumerate(ALGORITHMS)}
MIXED = compiled(830, Limit(3, 60, "gcra"), Limit(5, 3600, "sliding_window_counter"))
STATED = ("fixed_window", "sliding_window")  # whose state says what is used


class Interleaved:
    """Units of charges, each taken a step at a time. `answers`: results of those that have ended, by their number.

    Slots whose keys are `away` do not answer.
    """

    def __init__(
        self, store: RedisStore, *units: Sequence[Charge], fallback: Fallback | None = None, away: Sequence[bytes] = ()
    ) -> None:
        self._store, self._away = store, away
        self._steps = [Unit(charges, fallback or fallback_of()).decide() for charges in units]
        self.asked: dict[int, Sequence[Part]] = {number: next(steps) for number, steps in enumerate(self._steps)}
        self.answers: dict[int, list[Any]] = {}

    def step(self, number: int) -> list[bytes]:
        """The modes of the parts that were decided."""
        parts = self.asked.pop(number)
        try:
            self.asked[number] = self._steps[number].send([*map(self._decided, parts)])
        except StopIteration as end:
            self.answers[number] = end.value
        return [part.mode for part in parts]

    def _decided(self, part: Part) -> PartOutcome | StoreError:
        if part.key in self._away:
            return StoreUnavailable("away")
        return self._store.decide([part], START)[0]

    def finish(self, number: int) -> Any:
        """The result of the only charge."""
        while number in self.asked:
            self.step(number)
        return self.answers[number][0]


def decide(store: RedisStore, *charges: Charge) -> list[Any]:
    steps = Interleaved(store, charges)
    steps.finish(0)
    return steps.answers[0]


def left(store: RedisStore, charged: Charge) -> list[int]:
    """What remains, by part."""
    peeks = [Charge(part, prefix, 0) for part, prefix in zip(charged.compiled.parts, owners(charged), strict=True)]  # type: ignore[attr-defined]
    return [outcome.remaining for outcome in store.check(peeks, START) if isinstance(outcome, Outcome)]


def owners(charged: Charge) -> list[bytes]:
    return [charged.owners[owner] for owner in charged.compiled.owned]  # type: ignore[attr-defined]


COSTS = st.lists(st.integers(0, 5), min_size=1, max_size=6)


@EXAMPLES
@given(costs=COSTS, algorithms=st.tuples(*[st.sampled_from(ALGORITHMS)] * 3), mixed=st.booleans())
def test_several_slots_decide_as_one(
    store: RedisStore, costs: list[int], algorithms: tuple[str, str, str], mixed: bool
) -> None:
    own = MIXED if mixed else OWN[algorithms[0]]
    rules = own, ORG[algorithms[1]], ALL[algorithms[2]]
    subject, twin = (list(zip(rules, apart(3), strict=True)) for _ in range(2))
    for cost in costs:
        [expected] = store.check([charge(twin[0][1], *twin, cost=cost)], START)
        [answer] = decide(store, charge(subject[0][1], *subject, cost=cost))
        assert astuple(answer) == astuple(expected)


@EXAMPLES
@given(
    algorithms=st.tuples(*[st.sampled_from(STATED)] * 3),
    asked=st.lists(st.tuples(st.integers(0, 2), st.integers(1, 3), st.booleans()), min_size=2, max_size=6),
    schedule=st.lists(st.integers(0, 5), max_size=20),
    crashed=st.sets(st.integers(0, 5), max_size=1),
)
def test_no_counter_is_ever_above_its_limit(
    store: RedisStore,
    redis_client: redis.Redis,
    algorithms: tuple[str, str, str],
    asked: list[tuple[int, int, bool]],
    schedule: list[int],
    crashed: set[int],
) -> None:
    """In any order of steps. In the end there is what was admitted, and what a crash left."""
    own, org, everyone = OWN[algorithms[0]], ORG[algorithms[1]], ALL[algorithms[2]]
    prefixes = apart(5)
    charges = [
        charge(
            prefixes[client],
            (own, prefixes[client]),
            *[(org, prefixes[3])] * in_org,
            (everyone, prefixes[4]),
            cost=cost,
        )
        for client, cost, in_org in asked
    ]
    limits = {
        key: limit.rate
        for each in charges
        for key, limit in zip(counters(each), each.compiled.rule.limits, strict=True)
    }
    steps = Interleaved(store, *([each] for each in charges))
    for choice in [*schedule, *range(100)]:
        running = sorted(steps.asked.keys() - (crashed if len(steps.answers) else set()))
        if running:
            steps.step(running[choice % len(running)])
            assert all(used(redis_client, key) <= rate for key, rate in limits.items())
    admitted = [number for number, [answer] in steps.answers.items() if answer.allowed]
    for key in limits:
        expected = sum(charges[number].cost for number in admitted if key in counters(charges[number]))
        lost = sum(charges[number].cost for number in steps.asked if key in counters(charges[number]))
        assert expected <= used(redis_client, key) <= expected + lost
    assert steps.asked.keys() <= crashed


def trips(store: RedisStore, charged: Charge) -> list[list[bytes]]:
    """The modes of the parts, by round trip."""
    steps, found = Interleaved(store, [charged]), []
    while steps.asked:
        found.append(steps.step(0))
    return found


@pytest.mark.parametrize("with_id", [False, True])
def test_each_further_slot_is_a_round_trip(store: RedisStore, with_id: bool) -> None:
    client, *others = apart(3)
    own, (org, everyone) = (OWN["gcra"], client), zip((ORG["gcra"], ALL["gcra"]), sorted(others, key=slot), strict=True)
    finish, numbers = [[FINISH]] * with_id, count()

    def asked(*owned: Any, cost: int = 1) -> list[list[bytes]]:
        request_id = f"id {next(numbers)}" if with_id and cost else None
        return trips(store, charge(client, *owned, cost=cost, request_id=request_id))

    assert asked(own, org, everyone, cost=0) == [[ASK] * 3]
    assert asked(own, org) == [[PART], [PART], *finish]
    assert asked(own, org, everyone) == [[PART], [PART], [PART], *finish]
    assert asked(own, org, cost=2) == [[PART], [ASK]]  # denied by the first
    assert asked(org, everyone, cost=3) == ([[PART], [PART], [BACK, ASK]] if with_id else [[PART], [ASK]])


def test_after_a_denial_everything_is_as_before(store: RedisStore, redis_client: redis.Redis) -> None:
    """By the last slot, the numbers of the answer too."""
    client, shared = apart(2)
    full = charge(client, (OWN["fixed_window"], client), (ORG["sliding_window"], shared), cost=3, request_id="id")
    store.check([Charge(ORG["sliding_window"], shared, 2)], START)
    [denied] = decide(store, full)
    assert (denied.allowed, denied.binding, denied.remaining) == (False, 1, 2)
    assert left(store, full) == [3, 2]
    assert not redis_client.keys(client.decode() + "*")


@pytest.mark.parametrize("stopped", [1, 2])
def test_an_id_whose_charge_was_cut_short_is_charged_once_for_its_client(store: RedisStore, stopped: int) -> None:
    client, shared = apart(2)
    charged = charge(client, (OWN["fixed_window"], client), (ORG["fixed_window"], shared), request_id="id")
    steps = Interleaved(store, [charged], [charged])
    for _ in range(stopped):
        steps.step(0)
    answer = steps.finish(1)
    assert (answer.allowed, left(store, charged)) == (True, [2, 4 - stopped])
    assert decide(store, charged) == [answer]


@EXAMPLES
@given(schedule=st.lists(st.integers(0, 2), max_size=12), full=st.booleans())
def test_repetitions_at_the_same_time_are_one_charge_for_their_client(
    store: RedisStore, schedule: list[int], full: bool
) -> None:
    client, shared = apart(2)
    charged = charge(client, (OWN["fixed_window"], client), (ORG["fixed_window"], shared), request_id="id")
    if full:
        store.check([Charge(ORG["fixed_window"], shared, 4)], START)
    steps = Interleaved(store, *[[charged]] * 3)
    for number in [*schedule, *[0, 1, 2] * 5]:
        if number in steps.asked:
            steps.step(number)
    assert [answer.allowed for [answer] in steps.answers.values()] == [not full] * 3
    own, org = left(store, charged)
    assert own == 2 if not full else own >= 2  # a repetition relied on the charge of another, then was denied
    assert org == 0 if full else org >= 1


def test_another_check_under_an_unfinished_id_is_a_conflict(store: RedisStore) -> None:
    client, shared = apart(2)
    owned = (OWN["gcra"], client), (ORG["gcra"], shared)
    steps = Interleaved(
        store, [charge(client, *owned, request_id="id")], [charge(client, *owned, request_id="id", key="x")]
    )
    steps.step(0)
    assert isinstance(steps.finish(1), RequestIdConflict)
    assert steps.finish(0).allowed
    assert left(store, charge(client, *owned)) == [2, 3]


def test_together_charges_each_counter_once_or_none(store: RedisStore) -> None:
    one, other, org, everyone = apart(4)
    rules = OWN["fixed_window"], ORG["gcra"], ALL["sliding_window"]

    def of(client: bytes, cost: int) -> Charge:
        return charge(client, (rules[0], client), (rules[1], org), (rules[2], everyone), cost=cost)

    answers = decide(store, of(one, 2), of(other, 3), of(one, 1), of(other, 0))
    assert [answer.allowed for answer in answers] == [True] * 4
    assert [left(store, of(client, 1)) for client in (one, other)] == [[1, 1, 2], [0, 1, 2]]
    answers = decide(store, of(one, 1), of(other, 1), of(other, 0))
    assert [(answer.allowed, answer.binding, answer.remaining) for answer in answers] == [
        (True, 0, 1),
        (False, 0, 0),
        (True, 0, 0),
    ]
    assert [left(store, of(client, 1)) for client in (one, other)] == [[1, 1, 2], [0, 1, 2]]


def decide_without(store: RedisStore, away: Sequence[bytes], *charges: Charge, fallback: Fallback) -> list[Any]:
    steps = Interleaved(store, charges, fallback=fallback, away=away)
    steps.finish(0)
    return steps.answers[0]


def modes(own: str, shared: str) -> tuple[CompiledRule, CompiledRule]:
    limits = Limit(8, 3600, "fixed_window"), Limit(5, 3600, "fixed_window")
    return compiled(840, limits[0], fail_mode=own), compiled(841, limits[1], fail_mode=shared, layer="org")


@pytest.mark.parametrize("lost", [0, 1])
def test_the_rules_of_lost_counters_say_what_happens(store: RedisStore, lost: int) -> None:
    """The others decide and charge. `local`: of eight or five units, a worker of four has two or one."""
    for mode in FAIL_MODES:
        prefixes = apart(2)
        rules = modes(*(mode if place == lost else "closed" for place in range(2)))
        charged = charge(prefixes[0], *zip(rules, prefixes, strict=True))
        share = [8, 5][lost] // 4 if mode == "local" else 0 if mode == "closed" else 4
        fallback = fallback_of()
        answers = [decide_without(store, [prefixes[lost]], charged, fallback=fallback)[0] for _ in range(4)]
        assert left(store, charged)[1 - lost] == [8, 5][1 - lost] - share  # given back after a denial
        if mode == "closed":
            assert all(isinstance(answer, Unavailable) for answer in answers)
        else:
            assert [outcome.allowed for _, outcome in answers] == [True] * share + [False] * (4 - share)
        if mode == "local":
            rule, outcome = answers[-1]
            assert (rule.rule.limits[outcome.binding].rate, outcome.remaining) == (share, 0)


def test_what_is_left_decides_beside_lost_counters(store: RedisStore) -> None:
    prefixes = apart(2)
    charged = charge(prefixes[0], *zip(modes("open", "open"), prefixes, strict=True), cost=6)
    [(rule, outcome)] = decide_without(store, [prefixes[0]], charged, fallback=fallback_of())
    assert (rule, outcome.allowed, outcome.binding, outcome.retry_after_us) == (charged.compiled, False, 1, None)


def test_without_any_server_the_strictest_rule_decides(store: RedisStore) -> None:
    prefixes = apart(2)
    charged = charge(prefixes[0], *zip(modes("open", "local"), prefixes, strict=True))
    fallback = fallback_of()
    answers = [decide_without(store, prefixes, charged, fallback=fallback)[0] for _ in range(2)]
    assert [outcome.allowed for _, outcome in answers] == [True, False]


def test_a_lost_slot_of_an_id_alone_counts_as_the_strictest_rule(store: RedisStore) -> None:
    client, shared = apart(2)
    for mode in FAIL_MODES:
        charged = charge(client, (modes("open", mode)[1], shared), request_id="id")
        [answer] = decide_without(store, [client], charged, fallback=fallback_of())
        assert isinstance(answer, Unavailable) == (mode == "closed")
    assert left(store, charged) == [5 - 2]  # the server of the counter decided


def test_an_overloaded_worker_admits_nobody(store: RedisStore) -> None:
    client, shared = apart(2)
    charged = charge(client, (OWN["gcra"], client), (ORG["gcra"], shared))
    steps = Unit([charged], fallback_of()).decide()
    parts = next(steps)
    parts = steps.send(store.decide(parts, START))
    [back] = steps.send([StoreBusy("busy")])
    assert back.mode == BACK
    with pytest.raises(StopIteration) as end:
        steps.send(store.decide([back], START))
    assert isinstance(end.value.value[0], Unavailable)
    assert left(store, charged) == [3, 4]


def test_together_a_lost_counter_with_fail_mode_closed_keeps_all_uncharged(store: RedisStore) -> None:
    one, other, shared = apart(3)
    own, org = modes("closed", "open")
    charges = [charge(client, (own, client), (org, shared)) for client in (one, other)]
    lost, kept = decide_without(store, [one], *charges, fallback=fallback_of())
    assert isinstance(lost, Unavailable)
    assert (kept.allowed, kept.remaining) == (True, 5)
    assert left(store, charges[1]) == [8, 5]
