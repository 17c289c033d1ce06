"""Leases of counters in several slots of a cluster: in each slot a lease of as many permits."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from msgspec.structs import replace

from app.limiter.compiled_rule import Charge, ChargeRecord
from app.limiter.decision import LeaseOutcome, Outcome
from app.limiter.errors import StoreError, StoreFault
from app.limiter.joint.joint_rule import JointRule, only
from app.limiter.joint.parts import ASK, ItemOutcome, Part, PartialOutcome, combined
from app.limiter.joint.placement import Slot, prefixes, slots
from app.limiter.joint.spanning import Spanning
from app.limiter.redis.script_calls import NONSENSE

ATTEMPTS = 2  # meanwhile, checks may take in one slot what was left there

RecordOf = Callable[[Charge], ChargeRecord]


class Share(NamedTuple):
    """The part of a charge that lies in one slot, and the indexes of its limits in the whole."""

    charge: Charge
    limits: tuple[int, ...]


class SpanningLeases:
    """`grant` and `back` make the records of a lease and of its return, for the share of one slot."""

    def __init__(self, spanning: Spanning) -> None:
        self._spanning = spanning

    def acquire(self, charge: Charge, grant: RecordOf, back: RecordOf) -> LeaseOutcome | StoreError:
        """Grant in every slot as many permits as the charge costs, or as all slots have left."""
        least = self._least(charge)
        for _ in range(ATTEMPTS):
            if isinstance(least, StoreError) or not least.allowed:
                break
            wanted = min(charge.cost, least.remaining)
            granted = self._granted(replace(charge, cost=wanted), grant, back)
            if granted is not None:
                return granted
            least = self._least(charge)
        if isinstance(least, StoreError):
            return least
        wait_us = 1 if least.allowed else least.retry_after_us
        return LeaseOutcome(False, least.binding, least.remaining, wait_us, least.reset_after_us, least.now_us, 0)

    def release(self, charge: Charge, back: RecordOf) -> LeaseOutcome | StoreError:
        """Return the unused permits in every slot. The refund is the largest of all slots."""
        first, *others = self._check([replace(share, record=back(share)) for share, _ in _shares(charge)])
        if isinstance(first, StoreError) or first.permits < 0:
            return first
        found = [first, *(each for each in others if isinstance(each, LeaseOutcome))]
        permits, just_now = max(each.permits for each in found), max(each.remaining for each in found)
        return replace(first, permits=permits, remaining=just_now)

    def _least(self, charge: Charge) -> Outcome | StoreError:
        """Return the outcome of a check of one unit, which charges nothing."""
        asked = slots([replace(charge, cost=1)])
        found: list[PartialOutcome] = []
        for outcome in self._spanning.decide([Part(each.key, ASK, tuple(each.items.values())) for each in asked]):
            if isinstance(outcome, StoreError):
                return outcome
            found += [each.before for each in outcome.outcomes if isinstance(each, ItemOutcome)]
        return combined(found)

    def _granted(self, charge: Charge, grant: RecordOf, back: RecordOf) -> LeaseOutcome | StoreError | None:
        """Grant the whole cost in one slot after the other. If a slot has less left by now, return all; then None."""
        found: list[PartialOutcome] = []
        given: list[Charge] = []
        for share, limits in _shares(charge):
            given.append(share)
            [outcome] = self._check([replace(share, record=grant(share))])
            if isinstance(outcome, StoreError) or outcome.permits < charge.cost:
                self._check([replace(each, record=back(each)) for each in given])
                return outcome if isinstance(outcome, StoreError) else None
            numbers = outcome.remaining, 0, outcome.reset_after_us, outcome.now_us, 0
            found.append(PartialOutcome(True, limits[outcome.binding], *numbers))
        least = combined(found)
        numbers = least.remaining, 0, least.reset_after_us, least.now_us, charge.cost
        return LeaseOutcome(True, least.binding, *numbers)

    def _check(self, charges: list[Charge]) -> list[LeaseOutcome | StoreError]:
        found = self._spanning.check(charges)
        return [each if isinstance(each, LeaseOutcome | StoreError) else StoreFault(NONSENSE) for each in found]


def _shares(charge: Charge) -> list[Share]:
    """Return the shares of the slots, first that of the first limit."""
    return sorted((_share(charge, each) for each in slots([charge])), key=lambda share: share.limits)


def _share(charge: Charge, there: Slot) -> Share:
    """Return the share of the slot, whose client is the owner of its first counter."""
    compiled, limits = charge.compiled, there.items[0].limits
    if isinstance(compiled, JointRule):
        compiled = only(compiled, tuple(part for part, start in enumerate(compiled.starts) if start in limits))
    owner = prefixes(charge)[limits[0]]
    return Share(Charge(compiled, owner, charge.cost, None, charge.owners), limits)
