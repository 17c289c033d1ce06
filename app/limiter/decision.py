"""Values of the decision path: what is asked (Check), what a store found (Outcome), what is answered (Decision)."""

from __future__ import annotations

from dataclasses import dataclass

from app.rules.rule import Limit, Rule


@dataclass(frozen=True, slots=True)
class Check:
    """One question. `cost` in units; 0 is a peek."""

    client_id: str
    limit_key: str = "global"
    cost: int = 1
    request_id: str | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a store found for all limits of one rule. Times are microseconds of the store's clock."""

    allowed: bool
    binding: int  # index of the limit with the least left
    remaining: int  # whole units left of the binding limit
    retry_after_us: int | None  # 0: allowed; None: waiting never helps
    reset_after_us: int
    now_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """The answer. `limit` is the binding one; None where the rule allows or blocks outright."""

    rule: Rule
    limit: Limit | None
    allowed: bool
    remaining: int
    retry_after_ms: int | None
    now_us: int
    reset_after_us: int
    reason: str
    degraded: bool = False

    @property
    def reset_at(self) -> float:
        """Unix time in seconds at which, without further checks, `remaining` is back at the limit."""
        return (self.now_us + self.reset_after_us) / 1_000_000

    @property
    def most_at_once(self) -> int:
        """The most that can be admitted at once: of the binding limit, or all or nothing."""
        return self.limit.capacity if self.limit else self.remaining
