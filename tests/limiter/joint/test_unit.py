"""Charges in several slots, decided step by step in any interleaving. One server stands for all slots."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.limiter.compiled_rule import Charge
from app.limiter.decision import Outcome
from app.limiter.errors import RequestIdConflict
from app.limiter.joint.parts import ASK, BACK, FINISH, PART, Part
from app.limiter.joint.unit import Unit
from app.limiter.keys import slot
from app.limiter.redis.store import RedisStore
from app.rules.rule import ALGORITHMS, Limit
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
    """Units of charges, each taken a step at a time. `answers`: results of those that have ended, by their number."""

    def __init__(self, store: RedisStore, *units: Sequence[Charge]) -> None:
        self._store = store
        self._steps = [Unit(charges, fallback_of()).decide() for charges in units]
        self.asked: dict[int, Sequence[Part]] = {number: next(steps) for number, steps in enumerate(self._steps)}
        self.answers: dict[int, list[Any]] = {}

    def step(self, number: int) -> list[bytes]:
        """The modes of the parts that were decided."""
        parts = self.asked.pop(number)
        try:
            self.asked[number] = self._steps[number].send(self._store.decide(parts, START))
        except StopIteration as end:
            self.answers[number] = end.value
        return [part.mode for part in parts]

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
        assert decide(store, charge(subject[0][1], *subject, cost=cost)) == [expected]


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
