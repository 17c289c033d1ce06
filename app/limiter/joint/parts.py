"""Values of decisions whose counters may lie in several slots of a cluster: the part of each slot, and its outcome."""

from __future__ import annotations

from msgspec import Struct

from app.limiter.compiled_rule import Charge
from app.limiter.decision import Outcome
from app.limiter.errors import RequestIdConflict

WHOLE, PART, ASK, BACK = b"whole", b"part", b"ask", b"back"


class Item(Struct, frozen=True, gc=False):
    """A charge, and the indexes of its limits whose counters lie in the part's slot."""

    charge: Charge
    limits: tuple[int, ...]


class Part(Struct, frozen=True, gc=False):
    """What one script call decides, in the slot of `key`: all items are charged, or none.

    `mode`: WHOLE is the entire decision. PART is one of several parts, ASK charges nothing, and BACK gives back what
    `undo` says was charged at `at_us`, in microseconds of the slot's clock.
    """

    key: bytes
    mode: bytes
    items: tuple[Item, ...]
    undo: bytes = b""
    at_us: int = 0


class PartOutcome(Struct, frozen=True, gc=False):
    """`undo` is for BACK. `charged`: whether all items were. None: the part has no limit of that item."""

    outcomes: tuple[Outcome | RequestIdConflict | None, ...]
    undo: bytes
    charged: bool
