"""What is known so far of one charge whose counters may lie in several slots."""

from __future__ import annotations

from typing import Protocol

from msgspec.structs import replace

from app.limiter.compiled_rule import Charge, CompiledRule
from app.limiter.decision import Outcome
from app.limiter.errors import RequestIdConflict, StoreBusy, StoreError, Unavailable
from app.limiter.joint.joint_rule import JointRule, only
from app.limiter.joint.parts import Item, ItemOutcome, PartialOutcome, PassingDenial, combined

# What a fallback decides: the outcome and the rule to whose limits it refers, or a refusal.
FallenBack = tuple[CompiledRule, Outcome] | Unavailable
Decided = Outcome | StoreError | FallenBack


class PartFallback(Protocol):
    """Decides by the strictest fail_mode of all rules of a charge, where Redis does not."""

    def mode(self, compiled: CompiledRule) -> str: ...

    def decide(self, charge: Charge, why: object) -> FallenBack: ...


class Progress:
    """`fallback` decides limits whose servers are away."""

    def __init__(self, charge: Charge, fallback: PartFallback) -> None:
        self.charge = charge
        self.marked: Item | None = None  # with a request id that is marked as unfinished
        self._fallback = fallback
        self._tested: list[ItemOutcome] = []
        self._known: Outcome | RequestIdConflict | None = None  # the answer of the request id
        self._lost: list[int] = []  # limits that no server decided
        self._error: StoreError | None = None
        self._instead: FallenBack | None = None  # what the fallback decided for lost limits

    @property
    def answered(self) -> bool:
        """Whether no server needs to be asked any more."""
        return self._known is not None or isinstance(self._instead, Unavailable)

    @property
    def admitted(self) -> bool:
        """Whether nothing denies the charge so far."""
        if self._instead is not None and (isinstance(self._instead, Unavailable) or not self._instead[1].allowed):
            return False
        return not isinstance(self._known, RequestIdConflict) and all(each.before.allowed for each in self._tested)

    def note(self, item: Item, found: ItemOutcome | Outcome | RequestIdConflict | None) -> None:
        """Take the outcome of the limits in one slot."""
        if isinstance(found, ItemOutcome):
            self._tested.append(found)
        elif found is not None:
            self._known = found
        if item.record is not None and not self.answered:
            self.marked = item

    def lose(self, item: Item, error: StoreError) -> None:
        """Take the failure of one slot. A denial stands without it. With fail_mode closed, it refuses the charge."""
        if self.admitted:
            self._lost += item.limits
            self._error = error
            if isinstance(error, StoreBusy) or self._fallback.mode(self._without_redis().compiled) == "closed":
                self._instead = self._fallback.decide(self._without_redis(), error)

    def fall_back(self) -> None:
        """Let the fallback decide the lost limits."""
        if self._error is not None and self._instead is None and (self._lost or not self._tested):
            self._instead = self._fallback.decide(self._without_redis(), self._error)

    def decided(self, *, charged: bool, passing: bool) -> Decided:
        """Return the result: with the numbers after the charge, or as if nothing had been charged.

        `passing`: a denial is a PassingDenial.
        """
        if self._known is not None:
            return self._known
        if not self._tested:
            self.fall_back()
        found = [tested.after if charged else tested.before for tested in self._tested]
        if self._error is None:
            return combined(found, PassingDenial if passing and not self.admitted else Outcome)
        if self._instead is None:  # denied before the fallback was asked
            return self.charge.compiled, combined(found)
        if not found or isinstance(self._instead, Unavailable):
            return self._instead
        return self._beside(found, *self._instead)

    def answer(self) -> bytes | None:
        """Return the answer to store under the request id, as check.lua does; None if no server decided."""
        if self.marked is None or self.marked.record is None or not self._tested:
            return None
        outcome = combined([tested.after for tested in self._tested])
        numbers = outcome.binding + 1, outcome.remaining, outcome.reset_after_us, outcome.now_us
        return b"%d %d %d %d " % numbers + self.marked.record.meaning

    def _beside(self, found: list[PartialOutcome], compiled: CompiledRule, instead: Outcome) -> FallenBack:
        """Return the outcome of the limits that servers decided, and of the others as the fallback decided them."""
        lost = sorted(self._lost)
        wait_us = instead.retry_after_us
        numbers = instead.remaining, wait_us, instead.reset_after_us, instead.now_us, wait_us
        both = combined([*found, PartialOutcome(instead.allowed, lost[instead.binding], *numbers)])
        if both.binding in lost:
            return compiled, replace(both, binding=lost.index(both.binding))
        return self.charge.compiled, both

    def _without_redis(self) -> Charge:
        """Return the charge of the lost limits alone; of all limits if none was decided."""
        charge, lost = self.charge, set(self._lost)
        compiled = charge.compiled
        if not isinstance(compiled, JointRule) or not lost or len(lost) == len(compiled.counter_names):
            return charge
        parts = tuple(part for part, start in enumerate(compiled.starts) if start in lost)
        return Charge(only(compiled, parts), charge.client, charge.cost, None, charge.owners)
