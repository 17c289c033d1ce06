"""Denials remembered in this worker's memory.

A client over its limit costs Redis nothing until it may return. The same question gets the same answer for as long as
Redis would give it, at most a second. The contract allows a reset to go unnoticed for that long.

The cache is exact. A denial is valid from the moment its question was *sent*, if nothing remains, until one more unit
is there. Otherwise another worker might admit a smaller cost. The times shown count from the arrival of the answer, so
that no client returns too early.

While Redis cannot decide, a client's last denial by a rule holds for its whole wait, and for every cost that is not
lower. Only time gives units back, so an open breaker admits no client that was just denied.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import count
from typing import Any, NamedTuple

from msgspec.structs import replace

from app.limiter.compiled_rule import Charge, CompiledRule
from app.limiter.decision import Decision, Outcome, Question
from app.limiter.joint.joint_rule import JointRule, owned_parts
from app.rules.rule import BUCKET_ALGORITHMS

MAX_SECONDS = 1.0
MAX_DENIALS = 10_000  # of either kind, 8 and 5 MB; beyond it the oldest are dropped


class Denial(NamedTuple):
    compiled: CompiledRule
    outcome: Outcome
    cost: int
    kept_at: float  # monotonic seconds
    until: float
    number: int = 0  # from 1, unique in this cache
    joint: JointRule | None = None  # all rules that denied together

    def at(self, now: float, joint: JointRule | None = None) -> Decision:
        """Return the decision at that moment, with its times counted down. `joint`: the rules that decide now."""
        age_us = self._age_us(now)
        return Decision(self.compiled, self.outcome, "over_limit", False, age_us, self.number, joint or self.joint)

    def outcome_at(self, now: float) -> Outcome:
        """Return the outcome at that moment, with its times counted down."""
        age_us, outcome = self._age_us(now), self.outcome
        return replace(
            outcome,
            retry_after_us=max(1, (outcome.retry_after_us or 0) - age_us),
            reset_after_us=max(0, outcome.reset_after_us - age_us),
            now_us=outcome.now_us + age_us,
        )

    def _age_us(self, now: float) -> int:
        return int((now - self.kept_at) * 1_000_000)


class DenialCache:
    """`clock` is monotonic seconds."""

    def __init__(self, clock: Callable[[], float], max_denials: int = MAX_DENIALS) -> None:
        self._clock = clock
        self._max_denials = max_denials
        self._denials: dict[Question, Denial] = {}
        self._numbers = count(1)
        self._latest = 0.0  # the latest end of all denials
        self._exhausted: dict[tuple[bytes, int], Denial] = {}  # keys: prefix of the counters and rule id

    def among(self, questions: Sequence[Question]) -> dict[int, Decision]:
        """Return the decisions that need no question to Redis, by index of the question, ascending."""
        if not self._denials:
            return {}
        now, found = self._clock(), {}
        if now >= self._latest:
            self._denials.clear()
            return {}
        for place, question in enumerate(questions):
            denial = self._denials.get(question)
            if denial is not None:
                if now < denial.until:
                    found[place] = denial.at(now)
                else:
                    del self._denials[question]
        return found

    def still(self, charge: Charge) -> Outcome | None:
        """Return the denial that holds while Redis cannot decide, as of now; None if none holds.

        Of several, it is the one of the longest wait.
        """
        compiled, now = charge.compiled, self._clock()
        parts = [part for part, _ in owned_parts(charge)]
        found = [self._exhausted.get(name) for name in _names(charge)]
        held = [
            denial
            for denial in found
            if denial and denial.cost <= charge.cost and now < denial.until and denial.compiled in parts
        ]
        if not held:
            return None
        denial = max(held, key=lambda denial: denial.until)
        outcome = denial.outcome_at(now)
        if not isinstance(compiled, JointRule):
            return outcome
        return replace(outcome, binding=compiled.starts[parts.index(denial.compiled)] + outcome.binding)

    def keep(
        self, question: Question, charge: Charge, outcome: Outcome, asked_at: float, *, repeat: bool = True
    ) -> None:
        """Remember the outcome if it is a denial that ends. `asked_at`: when the question was sent.

        `repeat` False: the same question must reach Redis again.
        """
        wait_us = outcome.retry_after_us
        if outcome.allowed or wait_us is None:
            return
        now, until = self._clock(), asked_at + wait_us / 1_000_000
        denial = Denial(charge.compiled, outcome, charge.cost, now, until, next(self._numbers))
        name = (charge.client, charge.compiled.rule.id)
        if isinstance(charge.compiled, JointRule):
            denial, name = _of_part(charge.compiled, charge, denial)
        self._keep_exhausted(name, denial, now)
        steady_us = _steady_us(charge, outcome)
        if steady_us and charge.record is None and repeat:
            until = asked_at + min(MAX_SECONDS, steady_us / 1_000_000)
            self._latest = max(self._latest, until)
            self._make_room(self._denials)
            self._denials[question] = denial._replace(until=until)

    def clear(self) -> None:
        """Drop all denials, because the rules have changed."""
        self._denials.clear()
        self._exhausted.clear()

    def _keep_exhausted(self, name: tuple[bytes, int], denial: Denial, now: float) -> None:
        """Store the denial, replacing one that has ended or that covers less because its cost is greater."""
        before = self._exhausted.pop(name, None)
        if (
            before is not None
            and before.cost < denial.cost
            and now < before.until
            and before.compiled is denial.compiled
        ):
            denial = before
        else:
            self._make_room(self._exhausted)
        self._exhausted[name] = denial

    def _make_room(self, kept: dict[Any, Denial]) -> None:
        while len(kept) >= self._max_denials:
            del kept[next(iter(kept))]


def _of_part(joint: JointRule, charge: Charge, denial: Denial) -> tuple[Denial, tuple[bytes, int]]:
    """Return the denial as one of the part with the binding limit, and the name under which it holds in an outage.

    A denial of one unit has the wait of the binding limit, as FullCounters explains. So it holds for all that need that
    part. Any other may have the wait of another limit, and holds for the same client and rules.
    """
    outcome = denial.outcome
    part, binding = joint.place(outcome.binding)
    alone = len(joint.parts) == 1 or (charge.cost == 1 and not outcome.remaining)
    owner = joint.owner_of(outcome.binding, charge.owners)
    name = (owner, part.rule.id) if alone else (charge.client, ~joint.number)
    return denial._replace(compiled=part, outcome=replace(outcome, binding=binding), joint=joint), name


def _names(charge: Charge) -> list[tuple[bytes, int]]:
    """Return the names of the denials that may hold for the charge in an outage."""
    names = [(owner, part.rule.id) for part, owner in owned_parts(charge)]
    return [*names, (charge.client, ~charge.compiled.number)] if charge.owners else names


def _steady_us(charge: Charge, outcome: Outcome) -> int:
    """Return the least time in which the same question gets the same answer, apart from its times. 0: unknown."""
    limit = charge.compiled.rule.limits[outcome.binding]
    wait_us = outcome.retry_after_us or 0
    if outcome.remaining:
        return 0
    if charge.cost == 1:
        return wait_us
    if limit.algorithm == "fixed_window":  # what remains does so until the window ends
        return min(wait_us, outcome.reset_after_us)
    if limit.algorithm in BUCKET_ALGORITHMS:  # until one unit more is there; reset_after_us has been rounded up
        missing = (limit.capacity - 1) * limit.window_us
        return max(0, min(wait_us, outcome.reset_after_us - 1 - -(-missing // limit.rate)))
    return 0
