"""The nodes of a deployment as seen in the database: their settings, and whether a clock is off.

Nodes count limits together only with the same settings. If one node has another `ALGORITHM`, each side admits the whole
limit. So each node publishes its settings and compares.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from typing import NamedTuple

from sqlalchemy import Engine, delete, extract, func, select
from sqlalchemy.dialects.postgresql import insert

from app.rules.sql.models import NodeRow

LASTS = timedelta(minutes=2)  # a node without a sign of life for several looks is gone
MOST = 100  # nodes to compare with
NAMED = 3  # nodes named in a sentence
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


class Nodes:
    """The nodes as seen from the one called `name`. `own_clock` is this node's Unix time in seconds."""

    def __init__(self, engine: Engine, *, name: str, own_clock: Callable[[], float], clock: SharedClock) -> None:
        self._engine = engine
        self._name = name
        self._own_clock = own_clock
        self._clock = clock
        self._told_at: datetime | None = None

    def look(self, settings: Mapping[str, str] | None) -> list[Node]:
        """Return the other running nodes, at most MOST, and compare clocks.

        `settings` are this node's, to publish; None publishes nothing. Raises SQLAlchemy's errors.
        """
        with self._engine.begin() as connection:
            before = self._own_clock()
            theirs = connection.execute(select(extract("epoch", func.clock_timestamp()))).scalar_one()
            self._clock.compared(before, float(theirs), self._own_clock())
            if settings is not None:
                connection.execute(delete(NodeRow).where(NodeRow.seen_at < func.now() - LASTS))
                told = insert(NodeRow).values(name=self._name, settings=dict(settings))
                again = {"settings": told.excluded.settings, "seen_at": func.now()}
                telling = told.on_conflict_do_update(index_elements=[NodeRow.name], set_=again).returning(
                    NodeRow.seen_at
                )
                self._told_at = connection.execute(telling).scalar_one()
            seen_at = extract("epoch", NodeRow.seen_at)
            others = select(NodeRow.name, NodeRow.settings, seen_at).where(
                NodeRow.name != self._name, NodeRow.seen_at >= func.now() - LASTS
            )
            rows = connection.execute(others.order_by(NodeRow.name).limit(MOST))
            return [Node(name, found, float(at)) for name, found, at in rows]

    def leave(self) -> None:
        """Remove this node, so that the others stop comparing with it. Raises SQLAlchemy's errors.

        A row that another worker has written since stays: after a reload, that worker speaks for the node.
        """
        with self._engine.begin() as connection:
            connection.execute(delete(NodeRow).where(NodeRow.name == self._name, NodeRow.seen_at == self._told_at))


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
        more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
        here = "" if setting == REDIS else f", {mine[setting]} here"
        told.append(f"{setting} {how} on {', '.join(names[:NAMED])}{more}{here}")
    return f"nodes decide by different settings: {'; '.join(told)}"
