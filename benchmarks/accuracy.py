"""Tests whether limits were kept, only from what callers saw: times of questions and answers, and the answers.

A check asked and answered within a period was decided in it. Only checks that must lie in a period count, never those
that may. So no slowness can make a correct service look wrong.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import NamedTuple

# A period is this much shorter than the window: an entry that leaves the log then may be admitted again.
MICROSECOND = 1e-6


class Answer(NamedTuple):
    """One check of cost 1. `began` and `ended` are seconds of one clock; the other fields are the decision's."""

    client_id: str
    began: float
    ended: float
    allowed: bool
    degraded: bool
    rule_id: int | str
    algorithm: str
    limit: int
    window: int
    reset_at: float


class Counter(NamedTuple):
    """The identity of a counter."""

    client_id: str
    rule_id: int | str
    algorithm: str
    limit: int
    window: int

    def __str__(self) -> str:
        return f"{self.client_id} by rule {self.rule_id} ({self.algorithm}, {self.limit} per {self.window} s)"

    def most(self, seconds: float) -> int:
        """Return the units that may be admitted within `seconds`; for the exact log at most one window's.

        Buckets refill meanwhile. Their burst is taken to equal the rate, because answers do not show it. The weighted
        counter admits at most as much.
        """
        if self.algorithm == "sliding_window":
            return self.limit
        return self.limit + int(self.limit * seconds / self.window)


def admitted(answers: Iterable[Answer]) -> dict[Counter, list[Answer]]:
    """Return the checks that Redis admitted, by counter: no degraded answers, and no rules without a counter."""
    found = defaultdict(list)
    for answer in answers:
        if answer.allowed and not answer.degraded and answer.algorithm:
            counter = Counter(answer.client_id, answer.rule_id, answer.algorithm, answer.limit, answer.window)
            found[counter].append(answer)
    return found


def violations(answers: Iterable[Answer]) -> list[str]:
    """Return a line for each counter that admitted more than its limit, with its worst period."""
    lines = []
    for counter, found in admitted(answers).items():
        stretches = _windows if counter.algorithm == "fixed_window" else _stretches
        worst = max(stretches(counter, found), key=lambda stretch: stretch.units - stretch.allowed)
        if worst.units > worst.allowed:
            lines.append(f"{counter}: {worst.units} admitted {worst.when}, allowed are {worst.allowed}")
    return lines


class _Stretch(NamedTuple):
    when: str
    units: int
    allowed: int


def _windows(counter: Counter, found: list[Answer]) -> Iterator[_Stretch]:
    """Yield the windows: all answers of one window name the same end."""
    units: dict[float, int] = defaultdict(int)
    for answer in found:
        units[answer.reset_at] += 1
    for ends, count in units.items():
        yield _Stretch(f"in the window that ends at {ends}", count, counter.limit)


def _stretches(counter: Counter, found: list[Answer]) -> Iterator[_Stretch]:
    """Yield periods of one window from each question on; if units refill, also periods as long as the whole run."""
    began, ended = sorted(answer.began for answer in found), sorted(answer.ended for answer in found)
    lengths = [counter.window - MICROSECOND]
    if counter.algorithm != "sliding_window":
        lengths.append(ended[-1] - began[0])
    for start in began:
        for seconds in lengths:
            end = min(start + seconds, ended[-1])
            # The checks answered by the end, less those asked before the start.
            units = bisect_right(ended, end) - bisect_left(began, start)
            yield _Stretch(f"within {end - start:.3f} s", units, counter.most(end - start))
