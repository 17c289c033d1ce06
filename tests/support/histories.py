"""Histories of checks over three layers whose rules are edited, beside an exact model: the Python steps, one state for
each counter.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import strategies as st
from msgspec.structs import replace

from app.limiter.algorithms import decide
from app.limiter.decision import Check, Decision, Outcome
from app.limiter.errors import RequestIdConflict
from app.limiter.limiter import Limiter
from app.limiter.redis import store as redis_store
from app.limiter.store import PartStore
from app.rules.rule import ALGORITHMS, Limit, Rule
from tests.support.deciders import SECOND, START
from tests.support.layered import Current, book, rule
from tests.support.limiters import leases_of, limiter_of

OWN, ORG, BIG, EVERYONE = 7, 20, 21, 30  # rules; BIG is the exception of one org
WINDOWS = {OWN: 60, ORG: 90, BIG: 90, EVERYONE: 45}
TICK = 7 / SECOND  # a worker's clock is never exactly that of Redis: no denial ends in the microsecond of a check
FORGOTTEN_SECONDS = 2.0  # by then no denial is remembered


@dataclass(frozen=True)
class Asked:
    """Checks of one client in one batch: the group and the cost of each, and perhaps a request id."""

    client: str
    checks: Sequence[tuple[str, int, str | None]]


@dataclass(frozen=True)
class Leased:
    client: str
    group: str
    permits: int


@dataclass(frozen=True)
class Edited:
    rule_id: int
    rate: int
    algorithm: str
    shared: bool


@dataclass(frozen=True)
class Waited:
    seconds: float


Event = Asked | Leased | Edited | Waited
# By layer, so that each of them denies at times.
RATES = {OWN: (2, 6), ORG: (1, 3), BIG: (2, 5), EVERYONE: (4, 12)}
LIMITS = st.tuples(*[st.tuples(st.integers(*rates), st.sampled_from(ALGORITHMS)) for rates in RATES.values()])
CLIENTS, GROUPS = st.sampled_from("abc"), st.sampled_from(["", "org:a", "org:b", "org:big"])
CHECKS = st.tuples(
    GROUPS,
    st.sampled_from([0, 1, 1, 1, 1, 2, 3]),
    st.sampled_from([None, None, None, None, "x", "y"]),
)
EDITS = st.builds(
    Edited,
    rule_id=st.sampled_from([OWN, ORG, BIG, EVERYONE]),
    rate=st.integers(1, 6),
    algorithm=st.sampled_from(ALGORITHMS),
    shared=st.booleans(),
)
EVENTS = st.one_of(
    *[st.builds(Asked, client=CLIENTS, checks=st.lists(CHECKS, min_size=1, max_size=3))] * 4,
    EDITS,
    st.builds(Leased, client=CLIENTS, group=GROUPS, permits=st.integers(1, 4)),
    st.builds(Waited, seconds=st.sampled_from([0.125, 0.5, 0.875, 7.0, 31.0, 100.0])),
)
HISTORIES = st.lists(EVENTS, min_size=4, max_size=25)
# Beyond the limits of the orgs, so that workers repeat denials: nearly all checks are of one unit.
FLOODS = st.lists(
    st.one_of(
        *[st.builds(Asked, client=CLIENTS, checks=st.tuples(st.tuples(GROUPS, st.just(1), st.none())))] * 6,
        st.builds(Asked, client=CLIENTS, checks=st.lists(CHECKS, min_size=1, max_size=2)),
        st.one_of(EDITS, st.builds(Waited, seconds=st.sampled_from([0.125, 0.875, 20.0]))),
    ),
    min_size=20,
    max_size=40,
)


@dataclass
class Model:
    """`answers`: under request ids, what was asked and what was answered."""

    rules: dict[int, Rule]
    states: dict[Any, Any] = field(default_factory=dict)
    answers: dict[tuple[str, str], tuple[tuple[str, int], tuple[int, Outcome]]] = field(default_factory=dict)

    def check(
        self, client: str, group: str, cost: int, request_id: str | None, now_us: int
    ) -> tuple[int, Outcome] | None:
        """The rule of the binding limit and the outcome; None for a conflict."""
        if request_id and cost:
            known = self.answers.get((client, request_id))
            if known:
                return known[1] if known[0] == (group, cost) else None
        found = self._charged(client, group, cost, now_us)
        if request_id and cost and found[1].allowed:
            self.answers[client, request_id] = (group, cost), found
        return found

    def lease(self, client: str, group: str, permits: int, now_us: int) -> int:
        """How many are granted: the least that any of the rules has left."""
        _, least = self._charged(client, group, 0, now_us)
        granted = min(permits, least.remaining)
        self._charged(client, group, granted, now_us)
        return granted

    def _charged(self, client: str, group: str, cost: int, now_us: int) -> tuple[int, Outcome]:
        org = [BIG if group == "org:big" else ORG] if group else []
        rules = [self.rules[number] for number in (OWN, *org, EVERYONE)]
        names = [self._counter(each, client, group) for each in rules]
        limits = [each.limits[0] for each in rules]
        changed, outcome = decide([self.states.get(name) for name in names], limits, cost, now_us)
        self.states.update(zip(names, changed or (), strict=False))
        return rules[outcome.binding].id, outcome

    def _counter(self, of: Rule, client: str, group: str) -> tuple[Any, ...]:
        """Whose, of which rule, in which format."""
        whose = f"client {client}" if not of.shared else f"group {group}" if of.group else "all"
        return of.id, whose, of.limits[0].algorithm


class History:
    """The limiter and the model, at the same time of the same clock.

    `remembers`: whether the worker may repeat denials; if not, every number of an answer is that of the model. But in a
    cluster, a batch's equal checks travel together: a denial has numbers of a moment while the first is under way.
    """

    def __init__(self, store: PartStore, limits: dict[int, tuple[int, str]], *, remembers: bool) -> None:
        self.now_us, self._clock, self._remembers = START, 0.0, remembers
        self._spans = store.spans
        rules = [
            rule(OWN, "*"),
            rule(ORG, group="org:*", layer="org", shared=True),
            rule(BIG, group="org:big", layer="org", shared=True),
            rule(EVERYONE, "*", layer="z", shared=True),
        ]
        self._model = Model({each.id: _limited(each, *limits[each.id]) for each in rules})
        self._secret = uuid.uuid4().bytes
        self._current = Current(book(*self._model.rules.values(), secret=self._secret))
        self._limiter: Limiter = limiter_of(self._current, store, clock=lambda: self._clock)
        self._leases = leases_of(self._limiter)

    def take(self, event: Event) -> None:
        if isinstance(event, Edited):
            self._edit(event)
        elif isinstance(event, Leased):
            question = 1, Check(event.client, cost=event.permits, groups=(event.group,) if event.group else ())
            granted = self._leases.acquire(question, 60_000).granted
            assert granted == self._model.lease(event.client, event.group, event.permits, self.now_us)
        elif isinstance(event, Waited):
            self.now_us += int(event.seconds * SECOND)
            self._clock += event.seconds + TICK
        else:
            self._ask(event)

    def _edit(self, edited: Edited) -> None:
        before = self._model.rules[edited.rule_id]
        shared = edited.shared if edited.rule_id == ORG else before.shared
        after = replace(before, version=before.version + 1, shared=shared)
        self._model.rules[edited.rule_id] = _limited(after, edited.rate, edited.algorithm)
        rules = self._model.rules.values()
        self._current.book = book(*rules, secret=self._secret, previous=self._current.book)

    def _ask(self, asked: Asked) -> None:
        checks = [
            Check(asked.client, cost=cost, groups=(group,) if group else (), request_id=request_id)
            for group, cost, request_id in asked.checks
        ]
        if not self._remembers:
            self._clock += FORGOTTEN_SECONDS
        answers = self._limiter.check([(1, check) for check in checks])
        before: tuple[str, int] | None = None
        for check, answer in zip(asked.checks, answers, strict=True):
            exact = not self._remembers and not (self._spans and before == check[:2])
            before = check[:2]
            expected = self._model.check(asked.client, *check, self.now_us)
            if expected is None:
                assert isinstance(answer, RequestIdConflict)
            else:
                assert isinstance(answer, Decision), answer
                self._same(answer, *expected, exact=exact)

    def _same(self, answer: Decision, rule_id: int, expected: Outcome, *, exact: bool) -> None:
        assert (answer.allowed, answer.degraded) == (expected.allowed, False)
        if expected.allowed or exact:
            found = answer.compiled.rule.id, answer.outcome.remaining, answer.outcome.retry_after_us
            assert found == (rule_id, expected.remaining, expected.retry_after_us)
        elif self._remembers and expected.retry_after_us is not None:  # perhaps with the wait of one full counter
            assert answer.retry_after_us is not None
            assert 0 < answer.retry_after_us <= expected.retry_after_us + 2 * SECOND * TICK


def _limited(of: Rule, rate: int, algorithm: str) -> Rule:
    return replace(of, limits=(Limit(rate, WINDOWS[of.id], algorithm, counter=1),))


def injected_clock(patch: pytest.MonkeyPatch, now_us: Any) -> None:
    """All scripts of this process decide at that time, on one server and in a cluster."""
    for name in ("packed_call", "packed_part"):
        packed = getattr(redis_store, name)
        patch.setattr(redis_store, name, lambda asked, _=None, packed=packed: packed(asked, now_us()))


def follow(store: PartStore, limits: Sequence[tuple[int, str]], events: list[Event], *, remembers: bool) -> None:
    """Every answer of the limiter is the model's."""
    history = History(store, dict(zip(WINDOWS, limits, strict=True)), remembers=remembers)
    with pytest.MonkeyPatch.context() as patch:
        injected_clock(patch, lambda: history.now_us)
        for event in events:
            history.take(event)
