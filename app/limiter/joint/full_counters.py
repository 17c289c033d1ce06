"""Shared counters known to be full: a flood beyond a common limit costs Redis one check per worker and second.

DenialCache remembers a question, so each client of a full counter would ask Redis once. Here the counter is remembered,
for all clients that need it. As there, a denial is valid from the moment that its question was sent, until one unit is
there again, at most a second.

Only denials of one unit are kept. The limits that deny one unit have nothing left, and of those the one with the
longest wait is binding. So the wait of such a denial is that of the binding limit, whoever asks.
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec.structs import replace

from app.limiter.compiled_rule import Charge
from app.limiter.decision import Decision, Outcome
from app.limiter.denial_cache import MAX_SECONDS, Denial
from app.limiter.joint.joint_rule import JointRule

MAX_COUNTERS = 10_000  # beyond it the oldest are dropped


class FullCounters:
    """`clock` is monotonic seconds."""

    def __init__(self, clock: Callable[[], float], max_counters: int = MAX_COUNTERS) -> None:
        self._clock = clock
        self._max_counters = max_counters
        self._denials: dict[bytes, Denial] = {}  # by key of the counter
        self._latest = 0.0  # the latest end of all denials

    def any(self) -> bool:
        """Whether some counter is full."""
        if self._denials and self._clock() >= self._latest:
            self._denials.clear()
        return bool(self._denials)

    def denial(self, charge: Charge) -> Decision | None:
        """Return the denial of this charge of one unit if a counter that it needs is full, that of the longest wait."""
        joint, now, longest = charge.compiled, self._clock(), None
        if not isinstance(joint, JointRule):
            return None
        for part, owner, name in joint.shared:
            denial = self._denials.get(charge.owners[owner] + name)
            if denial is not None and now < denial.until and denial.compiled is part:
                longest = denial if longest is None else max(denial, longest, key=_ends_at)
        return None if longest is None else longest.at(now, joint)

    def keep(self, charge: Charge, outcome: Outcome, asked_at: float) -> None:
        """Remember the counter of this denial, if it is shared and full. `asked_at`: when the question was sent."""
        joint, wait_us = charge.compiled, outcome.retry_after_us
        if not isinstance(joint, JointRule) or charge.cost != 1 or charge.record or outcome.remaining or not wait_us:
            return
        part, binding = joint.place(outcome.binding)
        if not part.rule.shared:
            return
        until = asked_at + min(MAX_SECONDS, wait_us / 1_000_000)
        self._latest = max(self._latest, until)
        while len(self._denials) >= self._max_counters:
            del self._denials[next(iter(self._denials))]
        key = joint.owner_of(outcome.binding, charge.owners) + part.counter_names[binding]
        self._denials[key] = Denial(part, replace(outcome, binding=binding), 1, self._clock(), until)

    def clear(self) -> None:
        """Drop all, because the rules have changed."""
        self._denials.clear()


def _ends_at(denial: Denial) -> float:
    return denial.kept_at + (denial.outcome.retry_after_us or 0) / 1_000_000
