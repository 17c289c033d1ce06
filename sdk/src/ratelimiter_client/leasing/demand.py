"""The demand for permits, from which the size of a lease follows."""

from __future__ import annotations

import math


class Demand:
    """Units requested within `seconds`: a fading average, which at a steady rate equals rate x seconds.

    Added units count as spread evenly over the time since the last addition, so they may come in lumps. A burst raises
    `units` by no more than its size, so a lease of `units` is at most the recent use. `units` is at most `most`,
    or it would take long to fade.
    """

    __slots__ = ("_at", "_most", "_seconds", "units")

    def __init__(self, seconds: float, most: float, now: float) -> None:
        self.units: float = 0.0
        self._seconds = seconds
        self._most = most
        self._at = now

    def add(self, units: int, now: float) -> None:
        """`now`: seconds of any clock that does not go back."""
        passed = max(0.0, now - self._at) / self._seconds
        faded = -math.expm1(-passed)  # 1 - e^-passed
        added = units * (faded / passed if passed else 1.0)
        self.units = min(self._most, self.units * (1 - faded) + added)
        self._at = now
