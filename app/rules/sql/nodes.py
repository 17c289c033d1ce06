"""The nodes of a deployment, as they see each other in the database: what decides on each, and whose clock is off.

Limits are counted together only by nodes with the same settings: where one takes another `ALGORITHM`, each side admits
the whole limit. So each node says what it decides by, and compares.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from typing import NamedTuple

from sqlalchemy import Engine, delete, extract, func, select
from sqlalchemy.dialects.postgresql import insert

from app.rules.sql.models import NodeRow

LASTS = timedelta(minutes=2)  # without a word from it a node is gone: several looks
MOST = 100  # nodes that are compared with
NAMED = 3  # nodes that a sentence names
REDIS = "REDIS_URL"  # whose value here is the mark of the Redis that was found, never the URL
MARGIN_SECONDS = 5.0  # between reading a mark and telling of it, and of clocks
TOLERATED_SECONDS = 5.0


class Node(NamedTuple):
    """`seen_at`: Unix seconds, by the database's clock."""

    name: str
    settings: Mapping[str, str]
    seen_at: float


class SharedClock:
    """Unix time in seconds: PostgreSQL's, where `clock`, the node's own, is known to be off by more than a little."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.ahead_seconds = 0.0  # of PostgreSQL; 0 where that is tolerated

    def __call__(self) -> float:
        return self._clock() - self.ahead_seconds

    def compared(self, before: float, theirs: float, after: float) -> None:
        """PostgreSQL's clock said `theirs` when this node's said something from `before` to `after`."""
        ahead = (before + after) / 2 - theirs
        if after - before < TOLERATED_SECONDS:
            self.ahead_seconds = ahead if abs(ahead) > TOLERATED_SECONDS else 0.0

    @property
    def complaint(self) -> str | None:
        """What is wrong with this node's clock."""
        if not self.ahead_seconds:
            return None
        way = "ahead of" if self.ahead_seconds > 0 else "behind"
        return f"the clock of this node is {abs(self.ahead_seconds):.0f} s {way} that of PostgreSQL, by which it goes"


class Nodes:
    """Seen from the node called `name`. `own_clock` is Unix time in seconds, as this node has it."""

    def __init__(self, engine: Engine, *, name: str, own_clock: Callable[[], float], clock: SharedClock) -> None:
        self._engine = engine
        self._name = name
        self._own_clock = own_clock
        self._clock = clock
        self._told_at: datetime | None = None

    def look(self, settings: Mapping[str, str] | None) -> list[Node]:
        """The others that run, at most MOST. `settings`: what to tell them of this node; None: nothing.

        Raises what SQLAlchemy raises. Compares clocks as well.
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
        """This node ends: the others need not compare with it. Raises what SQLAlchemy raises.

        What another worker has told since then stays: after a reload it speaks for the node.
        """
        with self._engine.begin() as connection:
            connection.execute(delete(NodeRow).where(NodeRow.name == self._name, NodeRow.seen_at == self._told_at))


def difference(mine: Mapping[str, str], mark_made_at: float, others: Iterable[Node]) -> str | None:
    """A sentence that names each setting that is not the same everywhere, and the nodes; None where all are the same.

    What a node said of its Redis before this one's mark was made (Unix seconds) is out of date.
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
