"""Counts the admissions and denials of each rule in shared memory of fixed size; a scrape adds up all workers.

The memory holds rule numbers and no labels; a scrape takes labels from the current rules. So a series ends with its
rule, labels need no memory, and the memory does not grow with the number of rules.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from app.observability.shared_memory import shared_memory

# Rules with their own series, per node. Prometheus handles some 20,000 series of one target well, and a rule has two.
# At least the number of possible tenants, because each has at least one.
MAX_SERIES = 10_000
SLOTS = 2 * MAX_SERIES  # per worker; slots of removed rules are reused when no other is left
COLUMNS = 4  # allowed, blocked, permits granted, permits returned
_WORD = 8  # bytes
_PLACE_BYTES = (1 + SLOTS + SLOTS + COLUMNS * (SLOTS + 1)) * _WORD

BEYOND = "place %d: the metrics by rule of this worker are not shown, because %d places were reserved at the start"
log = logging.getLogger(__name__)

Pace = Callable[[Iterable[Any]], Iterable[Any]]


class Labels(NamedTuple):
    """Labels of the metrics by rule. `client_id` of a rule for a group is its group.

    `tenant` and `layer` are empty for the default ones: Prometheus treats an empty label as a missing one.
    `shadow` is no label, because shadow rules have a metric of their own.
    """

    client_id: str
    endpoint: str
    tenant: str = ""
    shadow: bool = False
    layer: str = ""


class Series(NamedTuple):
    """The number under which a rule is counted, and its labels. Several rules may share one series."""

    key: int
    labels: Labels


DEFAULT_SERIES = Series(0, Labels("default", "*"))
SeriesOf = Callable[[int], Series | None]  # argument: a rule id or a series key; None: no such rule


class Counts:
    """One worker's counts of one series. Every check raises them, so this neither locks nor looks anything up."""

    __slots__ = ("at", "memory")

    def __init__(self, memory: memoryview[float], at: int) -> None:
        self.memory = memory
        self.at = at

    def allowed(self, checks: float) -> None:
        self.memory[self.at] += checks

    def blocked(self, checks: float) -> None:
        self.memory[self.at + 1] += checks

    def granted(self, permits: float) -> None:
        self.memory[self.at + 2] += permits

    def returned(self, permits: float) -> None:
        self.memory[self.at + 3] += permits


class _Place:
    """One worker's counts in shared memory: number of used slots, their keys, hashes of their labels, counts.

    All workers are forked from one process, so Python's hash of the same labels is the same in all.
    """

    def __init__(self, memory: memoryview[int]) -> None:
        words = memory.cast("q")
        self.used = words[:1]
        self.keys = words[1 : 1 + SLOTS]
        self.names = words[1 + SLOTS : 1 + 2 * SLOTS]  # 0: free slot
        self.counts = memory[(1 + 2 * SLOTS) * _WORD :].cast("d")


class RuleCounts:
    """One per process. `reserve` memory in the master, `take` a place in each worker, then `follow` the rules."""

    def __init__(self) -> None:
        self._series: SeriesOf = {DEFAULT_SERIES.key: DEFAULT_SERIES}.get
        self._known: dict[int, Counts] = {}  # by series key
        self.reserve(1)

    def reserve(self, places: int) -> None:
        """Reserve memory for this many concurrent workers."""
        memory = shared_memory(places * _PLACE_BYTES)
        self._places = [_Place(memory[place * _PLACE_BYTES :][:_PLACE_BYTES]) for place in range(places)]
        self.take(0)

    def take(self, place: int) -> None:
        """Count at this place from now on, starting from the counts of the place's previous worker."""
        if place < len(self._places):
            self._mine = self._places[place]
        else:
            log.warning(BEYOND, place, len(self._places))
            self._mine = _Place(shared_memory(_PLACE_BYTES))
        mine, before = self._mine, self._known
        self._nowhere = Counts(mine.counts, COLUMNS * SLOTS)
        self._hand = 0
        self._known = {
            mine.keys[slot]: Counts(mine.counts, COLUMNS * slot) for slot in range(mine.used[0]) if mine.names[slot]
        }
        for key, counts in before.items():  # compiled rules from before the fork still use these
            now = self.of(key)
            counts.memory, counts.at = now.memory, now.at
            if now is not self._nowhere:
                self._known[key] = counts

    def follow(self, series: SeriesOf) -> None:
        """Count and show by these rules from now on."""
        self._series = series

    def of(self, rule_id: int) -> Counts:
        """Return where to count a rule's decisions; a rule that never decides has no series."""
        series = self._series(rule_id)
        if series is None:
            return self._nowhere
        counts = self._known.get(series.key)
        slot = self._free_slot() if counts is None else counts.at // COLUMNS
        if slot is None:
            return self._nowhere
        if counts is None:
            counts = self._known[series.key] = Counts(self._mine.counts, COLUMNS * slot)
        name = hash(series.labels)
        if self._mine.names[slot] != name:  # the slot had another rule, or this rule under other labels
            for column in range(COLUMNS):
                self._mine.counts[counts.at + column] = 0
            self._mine.keys[slot], self._mine.names[slot] = series.key, name
        return counts

    def totals(self, pace: Pace) -> dict[Labels, list[float]]:
        """Return the columns of every series, over all workers, without those of removed rules."""
        totals = {DEFAULT_SERIES.labels: [0.0] * COLUMNS}
        found: dict[int, Series | None] = {}
        for place in pace(self._places):
            used = place.used[0]
            keys, names = place.keys[:used].tolist(), place.names[:used].tolist()
            counts = place.counts[: COLUMNS * used].tolist()
            for slot, key in pace(enumerate(keys)):
                if key not in found:
                    found[key] = self._series(key)
                series = found[key]
                if series is not None and _is(series, key, names[slot]):
                    total = totals.setdefault(series.labels, [0.0] * COLUMNS)
                    for column, count in enumerate(counts[COLUMNS * slot : COLUMNS * (slot + 1)]):
                        total[column] += count
        return totals

    def _free_slot(self) -> int | None:
        """Return an unused slot, else one of a removed rule; None if there is neither."""
        mine = self._mine
        used = mine.used[0]
        if used < SLOTS:
            mine.used[0] = used + 1
            return used
        for _ in range(SLOTS):
            slot = self._hand = (self._hand + 1) % SLOTS
            series = self._series(mine.keys[slot])
            if series is None or not _is(series, mine.keys[slot], mine.names[slot]):
                mine.names[slot] = 0
                late = self._known.pop(mine.keys[slot], None)
                if late is not None:  # decisions of the removed rule that are not counted yet are dropped
                    late.at = self._nowhere.at
                return slot
        return None


def _is(series: Series, key: int, name: int) -> bool:
    return series.key == key and hash(series.labels) == name
