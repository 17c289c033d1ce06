"""How much is asked for, as a lease needs to know it."""

from __future__ import annotations

import math


class Demand:
    """Units asked for within `seconds`: an average whose older parts fade, at a steady rate equal to rate x seconds.

    What is added counts as spread evenly over the time since the last addition, so that it may come in lumps. A burst
    raises `units` by what was asked for and no more: a lease of that size is at most what was used lately. Above `most`
    nothing is counted, or it would take long to fade.
    """

    __slots__ = ("_at", "_most", "_seconds", "units")

    def __init__(self, seconds: float, most: float, now: float) -> None:
        self.units = 0.0
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
