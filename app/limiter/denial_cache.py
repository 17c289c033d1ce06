"""Denials remembered in this worker's memory, so that a client over its limit costs Redis nothing until it may return.

Exact: a denial is repeated only while Redis would repeat it. It is kept only with nothing remaining, for the same
question, from the moment the question was *sent* until its retry time, which is no later than Redis's own; and for at
most a second, so that what the cache cannot know (a reset) is forgotten as soon as the contract asks. Checks of more
than one unit are not kept: something may remain before their time comes. The times shown count from when the answer
came, so that nobody is told to return too early.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from app.limiter.decision import Decision, Outcome, Question
from app.limiter.plan import Charge, Plan

MAX_SECONDS = 1.0
MAX_DENIALS = 10_000  # about 8 MB; beyond it the oldest are forgotten


class Denial(NamedTuple):
    plan: Plan
    outcome: Outcome
    kept_at: float  # monotonic seconds
    until: float
    wording: dict[Any, Any]

    def at(self, now: float) -> Decision:
        """As it stands at that moment, its times counted down."""
        age_us = int((now - self.kept_at) * 1_000_000)
        return Decision(self.plan, self.outcome, "over_limit", age_us=age_us, wording=self.wording)


class DenialCache:
    """`clock` is monotonic seconds."""

    def __init__(self, clock: Callable[[], float], max_denials: int = MAX_DENIALS) -> None:
        self.clock = clock
        self._max_denials = max_denials
        self._denials: dict[Question, Denial] = {}
        self._latest = 0.0  # the end of the one that is true for longest

    def among(self, questions: Sequence[Question]) -> dict[int, Decision]:
        """What is denied without asking: by the place of the question, ascending."""
        if not self._denials:
            return {}
        now, found = self.clock(), {}
        if now >= self._latest:
            self.clear()
            return {}
        for place, question in enumerate(questions):
            denial = self._denials.get(question)
            if denial is not None:
                if now < denial.until:
                    found[place] = denial.at(now)
                else:
                    del self._denials[question]
        return found

    def keep(self, question: Question, charge: Charge, outcome: Outcome, asked_at: float) -> None:
        """Remember the outcome if it is a denial that can be repeated. `asked_at`: when the question was sent."""
        wait_us = outcome.retry_after_us
        if charge.cost != 1 or charge.once is not None or outcome.allowed or outcome.remaining or wait_us is None:
            return
        while len(self._denials) >= self._max_denials:
            del self._denials[next(iter(self._denials))]
        until = asked_at + min(MAX_SECONDS, wait_us / 1_000_000)
        self._latest = max(self._latest, until)
        self._denials[question] = Denial(charge.plan, outcome, self.clock(), until, {})

    def clear(self) -> None:
        """Forget all: the rules have changed."""
        self._denials.clear()
