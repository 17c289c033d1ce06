"""Where the counters of a charge lie."""

from __future__ import annotations

from app.limiter.compiled_rule import Charge
from app.limiter.joint.joint_rule import owned_parts
from app.limiter.keys import slot


def prefixes(charge: Charge) -> list[bytes]:
    """Return the prefix of each counter, by limit."""
    return [owner for part, owner in owned_parts(charge) for _ in part.names]


def home(charge: Charge) -> bytes:
    """Return a prefix whose slot has the counters and the request id of the charge, if one slot has all of them."""
    return charge.client if charge.record is not None or not charge.owners else prefixes(charge)[0]


def spans(charge: Charge) -> bool:
    """Whether the counters and the request id of the charge lie in several slots."""
    if not charge.owners:
        return False
    slots = set(map(slot, prefixes(charge)))
    if charge.record is not None:
        slots.add(slot(charge.client))
    return len(slots) > 1
