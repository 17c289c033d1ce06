"""Denials remembered in this worker's memory, so that a client over its limit costs Redis nothing until it may return.

Exact: a denial is repeated only while Redis would repeat it. It is kept only with nothing remaining, for the same rule,
client and cost, and from the moment the question was *sent* until its retry time, which is no later than Redis's own;
and for at most a second, so that what the cache cannot know (a reset) is forgotten as soon as the contract asks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from app.limiter.decision import Outcome
from app.limiter.plan import Charge, Plan

MAX_SECONDS = 1.0
MAX_DENIALS = 10_000  # about 5 MB; beyond it the oldest are forgotten


class Denial(NamedTuple):
    outcome: Outcome
    asked_at: float  # monotonic seconds
    until: float


class DenialCache:
    """`clock` is monotonic seconds."""

    def __init__(self, clock: Callable[[], float], max_denials: int = MAX_DENIALS) -> None:
        self.clock = clock
        self._max_denials = max_denials
        self._denials: dict[tuple[Plan, bytes, int], Denial] = {}

    def get(self, charge: Charge) -> Outcome | None:
        """The denial as it stands now, its times counted down; None where Redis has to be asked."""
        if not self._denials or charge.once is not None:  # a request id may stand for an earlier yes
            return None
        denial = self._denials.get((charge.plan, charge.client, charge.cost))
        if denial is None:
            return None
        now = self.clock()
        if now >= denial.until:
            del self._denials[charge.plan, charge.client, charge.cost]
            return None
        outcome, gone_us = denial.outcome, int((now - denial.asked_at) * 1_000_000)
        return Outcome(
            allowed=False,
            binding=outcome.binding,
            remaining=0,
            retry_after_us=max(1, (outcome.retry_after_us or 0) - gone_us),
            reset_after_us=max(0, outcome.reset_after_us - gone_us),
            now_us=outcome.now_us + gone_us,
        )

    def keep(self, charge: Charge, outcome: Outcome, asked_at: float) -> None:
        """Remember the outcome if it is a denial that can be repeated. `asked_at`: when the question was sent."""
        if charge.once is not None or outcome.allowed or outcome.remaining or outcome.retry_after_us is None:
            return
        while len(self._denials) >= self._max_denials:
            del self._denials[next(iter(self._denials))]
        until = asked_at + min(MAX_SECONDS, outcome.retry_after_us / 1_000_000)
        self._denials[charge.plan, charge.client, charge.cost] = Denial(outcome, asked_at, until)

    def clear(self) -> None:
        """Forget all: the rules have changed."""
        self._denials.clear()
