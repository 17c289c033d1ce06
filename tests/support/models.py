"""What each algorithm means, as plainly as possible: exact fractions, whole histories, no formula for waiting times.

A model only says whether a cost fits at an instant; waiting times are judged by asking it about two instants.
"""

from __future__ import annotations

from fractions import Fraction

from app.rules.rule import Limit


class Model:
    """`fits` looks, `charge` consumes, `restamp` takes notice of a clock that stepped back."""

    def used(self, limit: Limit, now_us: int) -> Fraction:
        """Units that count against the limit at this instant."""
        raise NotImplementedError

    def charge(self, limit: Limit, cost: int, now_us: int) -> None:
        raise NotImplementedError

    def restamp(self, limit: Limit, now_us: int) -> None:
        raise NotImplementedError

    def fits(self, limit: Limit, cost: int, now_us: int) -> bool:
        return self.used(limit, now_us) + cost <= limit.capacity

    def remaining(self, limit: Limit, now_us: int) -> int:
        return max(0, (limit.capacity - self.used(limit, now_us)).__floor__())


class Bucket(Model):
    """A level that drains at the limit's rate from the last charge on. For token_bucket and gcra."""

    def __init__(self) -> None:
        self._level, self._since = Fraction(0), 0

    def used(self, limit: Limit, now_us: int) -> Fraction:
        drained = Fraction(max(0, now_us - self._since) * limit.rate, limit.window_us)
        return max(Fraction(0), min(self._level, Fraction(limit.capacity)) - drained)

    def charge(self, limit: Limit, cost: int, now_us: int) -> None:
        self._level, self._since = self.used(limit, now_us) + cost, now_us

    def restamp(self, limit: Limit, now_us: int) -> None:
        if self._since > now_us:
            self.charge(limit, 0, now_us)


class FixedWindow(Model):
    """A sum, forgotten as a whole one window after its first charge."""

    def __init__(self) -> None:
        self._sum, self._start = 0, 0

    def used(self, limit: Limit, now_us: int) -> Fraction:
        over = self._start <= now_us - limit.window_us
        return Fraction(0 if over else min(self._sum, limit.rate))

    def charge(self, limit: Limit, cost: int, now_us: int) -> None:
        used = self.used(limit, now_us)
        self._start = now_us if used == 0 else min(self._start, now_us)
        self._sum = int(used) + cost

    def restamp(self, limit: Limit, now_us: int) -> None:
        if self._start > now_us:
            self._sum, self._start = min(self._sum, limit.rate), now_us


class Log(Model):
    """Every charge with its time."""

    def __init__(self) -> None:
        self._entries: list[tuple[int, int]] = []

    def used(self, limit: Limit, now_us: int) -> Fraction:
        return Fraction(sum(cost for at, cost in self._entries if at > now_us - limit.window_us))

    def charge(self, limit: Limit, cost: int, now_us: int) -> None:
        # What has left the window is gone for good, also for a clock that steps back later.
        kept = [(min(at, now_us), units) for at, units in self._entries if at > now_us - limit.window_us]
        self._entries = kept + [(now_us, cost)] * (cost > 0)

    def restamp(self, limit: Limit, now_us: int) -> None:
        if any(at > now_us for at, _ in self._entries):
            self.charge(limit, 0, now_us)


class Counter(Model):
    """Units by epoch-aligned window; the one before the current counts by the share still in sight."""

    def __init__(self) -> None:
        self._units: dict[int, int] = {}

    def used(self, limit: Limit, now_us: int) -> Fraction:
        index, offset = divmod(now_us, limit.window_us)
        current, previous = self._seen(limit, index)
        return current + Fraction(previous * (limit.window_us - offset), limit.window_us)

    def charge(self, limit: Limit, cost: int, now_us: int) -> None:
        index = now_us // limit.window_us
        current, previous = self._seen(limit, index)
        self._units = {index: current + cost, index - 1: previous}

    def restamp(self, limit: Limit, now_us: int) -> None:
        if self._last() > now_us // limit.window_us:
            self.charge(limit, 0, now_us)

    def _seen(self, limit: Limit, index: int) -> tuple[int, int]:
        newest = max(index, self._last())  # what lies in the future counts as the present
        current, previous = self._units.get(newest, 0), self._units.get(newest - 1, 0)
        return min(current, limit.rate), min(previous, limit.rate)

    def _last(self) -> int:
        return max(self._units, default=0)


MODELS: dict[str, type[Model]] = {
    "token_bucket": Bucket,
    "gcra": Bucket,
    "fixed_window": FixedWindow,
    "sliding_window": Log,
    "sliding_window_counter": Counter,
}
