"""Where the counters of a charge lie."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from app.limiter.compiled_rule import Charge
from app.limiter.joint.joint_rule import owned_parts
from app.limiter.joint.parts import Item
from app.limiter.keys import slot


def prefixes(charge: Charge) -> list[bytes]:
    """Return the prefix of each counter, by limit."""
    return [owner for part, owner in owned_parts(charge) for _ in part.counter_names]


class Slot(Struct):
    """What lies in the slot of `key`: items by index of their charge. `first`: own counters or ids are among them."""

    key: bytes
    items: dict[int, Item] = {}
    first: bool = False


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


def slots(charges: Sequence[Charge], *, spans: bool = True) -> list[Slot]:
    """Return the slots of all charges in the order of their numbers. `spans` False: one place has them all."""
    found: dict[int, Slot] = {}

    def number_of(prefix: bytes, own: bool) -> int:
        number = slot(prefix) if spans else 0
        known = found.setdefault(number, Slot(prefix))
        known.first |= own
        return number

    for place, charge in enumerate(charges):
        limits: dict[int, list[int]] = {}
        for limit, prefix in enumerate(prefixes(charge)):
            limits.setdefault(number_of(prefix, prefix == charge.client), []).append(limit)
        home = number_of(charge.client, True) if charge.record is not None else -1
        if home >= 0:
            limits.setdefault(home, [])
        for number, here in limits.items():
            found[number].items[place] = Item(charge, tuple(here), charge.record if number == home else None)
    return [found[number] for number in sorted(found)]
