"""Values of decisions whose counters may lie in several slots of a cluster: the part of each slot, and its outcome."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from msgspec import Struct

from app.limiter.compiled_rule import Charge, ChargeRecord
from app.limiter.decision import Outcome
from app.limiter.errors import RequestIdConflict

WHOLE, PART, ASK, BACK, FINISH = b"whole", b"part", b"ask", b"back", b"finish"


class Item(Struct, frozen=True, gc=False):
    """The limits of a charge whose counters lie in one slot, by their indexes. `record`: if its request id does too."""

    charge: Charge
    limits: tuple[int, ...]
    record: ChargeRecord | None = None


class Part(Struct, frozen=True, gc=False):
    """What one script call does in the slot of `key`: it charges all items, or none.

    `mode`: WHOLE is an entire decision; PART leaves request ids unfinished, because other parts come next; ASK charges
    nothing. BACK gives back an earlier call, whose `undo` is in `message`. FINISH stores `message` as the answer of the
    only item.
    """

    key: bytes
    mode: bytes
    items: tuple[Item, ...]
    message: bytes = b""


class PartialOutcome(Outcome, frozen=True, gc=False):
    """Outcome of some limits of a charge. `alone_us`: the wait of the binding limit alone, as `retry_after_us`."""

    alone_us: int | None


class PassingDenial(Outcome, frozen=True, gc=False):
    """A denial by a counter that may hold units on their way back, because other slots come after its slot."""


class ItemOutcome(NamedTuple):
    """Outcomes of an item: as if its part charged nothing, and after what it charged."""

    before: PartialOutcome
    after: PartialOutcome


class PartOutcome(Struct, frozen=True, gc=False):
    """`outcomes`: by item; an Outcome is the stored answer of its request id. None: no limit of the item is here.

    `admitted`: whether no item is denied. `undo` gives the call back; empty if it wrote nothing.
    """

    outcomes: tuple[ItemOutcome | Outcome | RequestIdConflict | None, ...] = ()
    admitted: bool = True
    undo: bytes = b""


def combined(found: Sequence[PartialOutcome], kind: type[Outcome] = Outcome) -> Outcome:
    """Return the outcome of all limits together, bound as check.lua and multi_limit.lua do. Its time is the first's."""
    binding = min(found, key=_order)
    return kind(
        allowed=all(each.allowed for each in found),
        binding=binding.binding,
        remaining=binding.remaining,
        retry_after_us=max((each.retry_after_us for each in found), key=_wait),
        reset_after_us=binding.reset_after_us,
        now_us=found[0].now_us,
    )


def _order(outcome: PartialOutcome) -> tuple[int, float, int, int]:
    return outcome.remaining, -_wait(outcome.alone_us), -outcome.reset_after_us, outcome.binding


def _wait(wait_us: int | None) -> float:
    return math.inf if wait_us is None else wait_us
