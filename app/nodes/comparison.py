"""Compares the settings of nodes, and a node's clock with PostgreSQL's.

Nodes count limits together only with the same settings. If one node has another `ALGORITHM`, each side admits the whole
limit.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

MAX_NAMED = 3  # nodes named in a sentence
REDIS = "REDIS_URL"  # its value here is the mark of the Redis that was found, never the URL
MARGIN_SECONDS = 5.0  # between reading and publishing a mark, and between clocks
TOLERATED_SECONDS = 5.0


class Node(NamedTuple):
    """`seen_at`: Unix seconds by the database's clock."""

    name: str
    settings: Mapping[str, str]
    seen_at: float


class SharedClock:
    """Unix time in seconds: the node's own `clock`, corrected to PostgreSQL's if it is off by more than a little."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.ahead_seconds = 0.0  # own clock minus PostgreSQL's; 0 if tolerated

    def __call__(self) -> float:
        return self._clock() - self.ahead_seconds

    def compared(self, before: float, theirs: float, after: float) -> None:
        """Compare with PostgreSQL's clock, which showed `theirs` between `before` and `after` of the node's own."""
        ahead = (before + after) / 2 - theirs
        if after - before < TOLERATED_SECONDS:
            self.ahead_seconds = ahead if abs(ahead) > TOLERATED_SECONDS else 0.0

    @property
    def complaint(self) -> str | None:
        """Return the fault of this node's clock; None if there is none."""
        if not self.ahead_seconds:
            return None
        way = "ahead of" if self.ahead_seconds > 0 else "behind"
        return f"the clock of this node is {abs(self.ahead_seconds):.0f} s {way} that of PostgreSQL, by which it goes"


def difference(mine: Mapping[str, str], mark_made_at: float, others: Iterable[Node]) -> str | None:
    """Return a sentence that names each differing setting and its nodes; None if all settings agree.

    Another node's Redis mark counts only if published after this node's mark was made (Unix seconds).
    """
    apart: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
    for other in others:
        for setting, value in mine.items():
            theirs = other.settings.get(setting, value)
            stale = setting == REDIS and other.seen_at < mark_made_at + MARGIN_SECONDS
            if theirs != value and not stale:
                apart[setting, "leads to another Redis" if setting == REDIS else f"is {theirs}"].append(other.name)
    if not apart:
        return None
    told = []
    for (setting, how), names in apart.items():
        more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
        here = "" if setting == REDIS else f", {mine[setting]} here"
        told.append(f"{setting} {how} on {', '.join(names[:MAX_NAMED])}{more}{here}")
    return f"nodes decide by different settings: {'; '.join(told)}"
