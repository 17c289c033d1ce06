"""Values of the decision path: what is asked (Check), what a store found (Outcome), what is answered (Decision).

Structs rather than dataclasses: a check makes one of each, and these are several times cheaper to make.
"""

from __future__ import annotations

import msgspec

from app.limiter.plan import Plan
from app.rules.rule import Limit


class Check(msgspec.Struct, frozen=True):
    """One question. `cost` in units; 0 is a peek."""

    client_id: str
    limit_key: str = "global"
    cost: int = 1
    request_id: str | None = None


class Outcome(msgspec.Struct, frozen=True):
    """What a store found for all limits of one rule. Times are microseconds of the store's clock."""

    allowed: bool
    binding: int  # index of the limit with the least left
    remaining: int  # whole units left of the binding limit
    retry_after_us: int | None  # 0: allowed; None: waiting never helps
    reset_after_us: int
    now_us: int


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of one rule. `binding`: index of the binding limit; -1 where the rule allows or blocks outright."""

    plan: Plan
    binding: int
    allowed: bool
    remaining: int
    retry_after_ms: int | None
    now_us: int
    reset_after_us: int
    reason: str
    degraded: bool = False

    @property
    def limit(self) -> Limit | None:
        return self.plan.rule.limits[self.binding] if self.binding >= 0 else None

    @property
    def most_at_once(self) -> int:
        """The most that can be admitted at once: of the binding limit, or all or nothing."""
        return self.limit.capacity if self.limit else self.remaining
