"""Charges that are admitted together or not at all, though their counters may lie in several slots of a cluster.

The slots with clients' own counters and request ids come first, all at once; the ids are marked as unfinished. The
other slots follow one by one, in the order of their numbers. Each slot tests and charges its part in one script, so no
counter is ever above its limit. After a denial, what was charged is given back, and the remaining slots are only asked.
A worker that ends in between leaves its charges.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import TypeVar

from app.limiter.compiled_rule import Charge
from app.limiter.errors import StoreError
from app.limiter.joint.parts import ASK, BACK, FINISH, PART, WHOLE, Item, Part, PartOutcome
from app.limiter.joint.placement import Slot, slots
from app.limiter.joint.progress import Decided, PartFallback, Progress

T = TypeVar("T")

Found = Sequence[PartOutcome | StoreError]
# Yields parts to decide in one round trip, receives their outcomes, and ends with a result.
Steps = Generator[Sequence[Part], Found, T]


class Unit:
    """`spans`: the charges may have counters in several slots. `only_ask`: nothing is charged."""

    def __init__(
        self, charges: Sequence[Charge], fallback: PartFallback, *, spans: bool = True, only_ask: bool = False
    ) -> None:
        self._progress = [Progress(charge, fallback) for charge in charges]
        self._slots = slots(charges, spans=spans)
        self._undo: list[Part] = []
        self._admitted = True  # so far
        self._mode = WHOLE if len(self._slots) == 1 else PART
        if only_ask or not any(charge.cost for charge in charges):
            self._mode = ASK

    def decide(self) -> Steps[list[Decided]]:
        """Return the results of the charges, in order."""
        waiting = self._rounds()
        while waiting and self._admitted:
            yield from self._ask(waiting.pop(0), self._mode)
        if self._admitted:
            for progress in self._progress:
                progress.fall_back()
                self._admitted &= progress.admitted
        if not self._admitted:
            yield from self._ask([each for slots in waiting for each in slots], ASK, self._undo)
        elif finished := self._finished():
            yield finished
        charged = self._admitted and self._mode != ASK
        return [progress.decided(charged=charged, passing=bool(waiting)) for progress in self._progress]

    def _rounds(self) -> list[list[Slot]]:
        """Return the slots, by round trip."""
        if self._mode == ASK:
            return [self._slots]
        rounds = [[each for each in self._slots if each.first]]
        rounds += [[each] for each in self._slots if not each.first]
        return [slots for slots in rounds if slots]

    def _ask(self, slots: Sequence[Slot], mode: bytes, before: Sequence[Part] = ()) -> Steps[None]:
        """Ask these slots, after the parts `before`, and take their outcomes."""
        asked, parts = [], []
        for each in slots:
            items = {place: item for place, item in each.items.items() if not self._progress[place].answered}
            if items:
                asked.append(items)
                parts.append(Part(each.key, mode, tuple(items.values())))
        if parts or before:
            found = yield [*before, *parts]
            for part, items, outcome in zip(parts, asked, found[len(before) :], strict=True):
                self._note(part, items, outcome)

    def _note(self, part: Part, items: dict[int, Item], outcome: PartOutcome | StoreError) -> None:
        if isinstance(outcome, StoreError):
            for place, item in items.items():
                self._progress[place].lose(item, outcome)
        else:
            if outcome.undo:
                self._undo.append(Part(part.key, BACK, part.items, outcome.undo))
            for (place, item), found in zip(items.items(), outcome.outcomes, strict=True):
                self._progress[place].note(item, found)
        self._admitted &= all(self._progress[place].admitted for place in items)

    def _finished(self) -> list[Part]:
        """Return the parts that store the answers of unfinished request ids."""
        found = []
        for progress in self._progress if self._mode == PART else ():
            answer = progress.answer()
            if progress.marked is not None and answer is not None:
                found.append(Part(progress.charge.client, FINISH, (progress.marked,), answer))
        return found


def side_by_side(several: Sequence[Steps[T]]) -> Steps[list[T]]:
    """Take several steps at the same time, in this order in every round trip. Returns their results."""
    results: dict[int, T] = {}
    asked: dict[int, Sequence[Part]] = {}

    def advance(place: int, found: Found | None) -> None:
        try:
            asked[place] = several[place].send(found)  # type: ignore[arg-type]  # None begins
        except StopIteration as end:
            asked.pop(place, None)
            results[place] = end.value

    for place in range(len(several)):
        advance(place, None)
    while asked:
        found = yield [part for parts in asked.values() for part in parts]
        begun = 0
        for place, parts in list(asked.items()):
            advance(place, found[begun : begun + len(parts)])
            begun += len(parts)
    return [results[place] for place in range(len(several))]
