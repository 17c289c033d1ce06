"""Values of the decision path: Check (the question), Outcome (the store's result), Decision (the answer).

Structs instead of dataclasses: a check makes one of each, and structs are several times cheaper to make. `gc=False`
because none can be part of a cycle, so the garbage collector need not visit them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from app.rules.rule import MAX_AMOUNT, Limit

if TYPE_CHECKING:
    from app.limiter.compiled_rule import CompiledRule


class Check(msgspec.Struct, frozen=True, gc=False):
    """One question. `cost` in units; 0 is a peek. `groups`: those of the client, in their order of precedence.

    `new_client`: the client is new and beyond the budget for new clients, so the counter that such clients share is
    charged.
    """

    client_id: str
    limit_key: str = "global"
    cost: int = 1
    request_id: str | None = None
    new_client: bool = False
    groups: tuple[str, ...] = ()


Question = tuple[int, Check]  # the id of the caller's tenant, and its check


class Outcome(msgspec.Struct, frozen=True, gc=False):
    """The store's result for all limits of one rule. Times are microseconds of the store's clock."""

    allowed: bool
    binding: int  # index of the limit with the least left; -1 where the rule allows or blocks outright
    remaining: int  # whole units left of the binding limit
    retry_after_us: int | None  # 0: allowed; None: waiting never helps
    reset_after_us: int
    now_us: int


class EarlierOutcome(Outcome, frozen=True, gc=False):
    """An outcome stored under a request id while the rule had other `terms`, to which its numbers refer."""

    terms: bytes


class LeaseOutcome(Outcome, frozen=True, gc=False):
    """Outcome of a lease script.

    Acquire: `permits` is the number granted. Release: `permits` is the number refunded in total (-1: unknown lease),
    `remaining` the number refunded by this call; other fields are unused.
    """

    permits: int


class Decision(msgspec.Struct, frozen=True, gc=False):
    """The answer of one rule. `degraded`: a fallback decided, not Redis. `age_us`: age of a remembered outcome.

    `repeats`: the number of the remembered denial that this decision repeats; 0 if it repeats none. `joint`: all rules
    that decided together, if several did; `compiled` is then the one of the binding limit.
    """

    compiled: CompiledRule
    outcome: Outcome
    reason: str
    degraded: bool = False
    age_us: int = 0
    repeats: int = 0
    joint: CompiledRule | None = None

    @property
    def allowed(self) -> bool:
        return self.outcome.allowed

    @property
    def retry_after_us(self) -> int | None:
        wait_us = self.outcome.retry_after_us
        if not wait_us:
            return wait_us
        left_us = wait_us - self.age_us
        return left_us if left_us > 0 else 1

    @property
    def reset_after_us(self) -> int:
        return self.outcome.reset_after_us - self.age_us

    @property
    def reset_at_us(self) -> int:
        """Unix time in microseconds."""
        return self.outcome.now_us + self.outcome.reset_after_us

    @property
    def limit(self) -> Limit | None:
        """The binding limit."""
        return self.compiled.rule.limits[self.outcome.binding] if self.outcome.binding >= 0 else None

    @property
    def most_at_once(self) -> int:
        """The most that can be admitted at once: by the binding limit, or all or nothing."""
        return self.limit.capacity if self.limit else self.outcome.remaining


def decided(compiled: CompiledRule, outcome: Outcome) -> Decision:
    """Return the decision for an outcome from Redis."""
    return Decision(compiled, outcome, "within_limit" if outcome.allowed else _denied(outcome))


def degraded(compiled: CompiledRule, outcome: Outcome) -> Decision:
    """Return the decision for an outcome that Redis did not decide."""
    return Decision(compiled, outcome, "degraded" if outcome.allowed else _denied(outcome), degraded=True)


def _denied(outcome: Outcome) -> str:
    return "cost_exceeds_limit" if outcome.retry_after_us is None else "over_limit"


def outright(compiled: CompiledRule, now_us: int) -> Decision:
    """Return the decision of a rule that counts nothing: it allows or blocks."""
    if compiled.rule.action == "allow":
        return Decision(compiled, Outcome(True, -1, MAX_AMOUNT, 0, 0, now_us), "allowed_by_rule")
    return Decision(compiled, Outcome(False, -1, 0, None, 0, now_us), "blocked_by_rule")
