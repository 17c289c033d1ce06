"""Were limits kept? Judged from what callers saw alone: when they asked, when they were answered, and what.

A decision fell between question and answer, so whatever was asked and answered within a stretch of time was decided in
it. Counted is what must lie in a stretch, never what may: an honest service cannot be accused, however slow it is.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import NamedTuple

MICROSECOND = 1e-6  # by which a stretch is shorter than the window: what leaves the log just then may be admitted again


class Answer(NamedTuple):
    """One check of cost 1. `began` and `ended` are seconds of one clock; what follows is the decision's."""

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
    """What counts together."""

    client_id: str
    rule_id: int | str
    algorithm: str
    limit: int
    window: int

    def __str__(self) -> str:
        return f"{self.client_id} by rule {self.rule_id} ({self.algorithm}, {self.limit} per {self.window} s)"

    def most(self, seconds: float) -> int:
        """Units that may be admitted within so many seconds, at most one window where the log is exact.

        Buckets refill meanwhile, as fast as their burst says: it is taken for the rate, which answers do not tell. The
        weighted counter admits at most as much.
        """
        if self.algorithm == "sliding_window":
            return self.limit
        return self.limit + int(self.limit * seconds / self.window)


def admitted(answers: Iterable[Answer]) -> dict[Counter, list[Answer]]:
    """What Redis admitted, by counter: no degraded answers, nothing of rules that count nothing (no algorithm)."""
    found = defaultdict(list)
    for answer in answers:
        if answer.allowed and not answer.degraded and answer.algorithm:
            counter = Counter(answer.client_id, answer.rule_id, answer.algorithm, answer.limit, answer.window)
            found[counter].append(answer)
    return found


def violations(answers: Iterable[Answer]) -> list[str]:
    """A line for each counter that admitted more than its limit, with the worst of its stretches."""
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
    """All answers of one window say when it ends."""
    units: dict[float, int] = defaultdict(int)
    for answer in found:
        units[answer.reset_at] += 1
    for ends, count in units.items():
        yield _Stretch(f"in the window that ends at {ends}", count, counter.limit)


def _stretches(counter: Counter, found: list[Answer]) -> Iterator[_Stretch]:
    """From each question, one window long; where units refill, also as long as all took."""
    began, ended = sorted(answer.began for answer in found), sorted(answer.ended for answer in found)
    lengths = [counter.window - MICROSECOND]
    if counter.algorithm != "sliding_window":
        lengths.append(ended[-1] - began[0])
    for start in began:
        for seconds in lengths:
            end = min(start + seconds, ended[-1])
            # All answered by the end, less those asked before the start.
            units = bisect_right(ended, end) - bisect_left(began, start)
            yield _Stretch(f"within {end - start:.3f} s", units, counter.most(end - start))
