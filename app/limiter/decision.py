"""Values of the decision path: what is asked (Check), what a store found (Outcome), what is answered (Decision).

Structs rather than dataclasses: a check makes one of each, and these are several times cheaper to make.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from app.rules.rule import MAX_AMOUNT, Limit

if TYPE_CHECKING:
    from app.limiter.plan import Plan


class Check(msgspec.Struct, frozen=True):
    """One question. `cost` in units; 0 is a peek."""

    client_id: str
    limit_key: str = "global"
    cost: int = 1
    request_id: str | None = None


Question = tuple[int, Check]  # with the id of the tenant whose caller asks


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


def decided(plan: Plan, outcome: Outcome, *, degraded: bool = False) -> Decision:
    """The decision that a store's outcome is. `degraded`: the store was not Redis."""
    wait_us = outcome.retry_after_us
    if outcome.allowed:
        reason = "degraded" if degraded else "within_limit"
    else:
        reason = "cost_exceeds_limit" if wait_us is None else "over_limit"
    return Decision(
        plan=plan,
        binding=min(outcome.binding, len(plan.rule.limits) - 1),  # an answer kept under a request id may be older
        allowed=outcome.allowed,
        remaining=outcome.remaining,
        retry_after_ms=None if wait_us is None else -(-wait_us // 1000),
        now_us=outcome.now_us,
        reset_after_us=outcome.reset_after_us,
        reason=reason,
        degraded=degraded,
    )


def outright(plan: Plan, now_us: int) -> Decision:
    """The decision of a rule that counts nothing: it allows or blocks."""
    allow = plan.rule.action == "allow"
    return Decision(
        plan=plan,
        binding=-1,
        allowed=allow,
        remaining=MAX_AMOUNT if allow else 0,
        retry_after_ms=0 if allow else None,
        now_us=now_us,
        reset_after_us=0,
        reason="allowed_by_rule" if allow else "blocked_by_rule",
    )
