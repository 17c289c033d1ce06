"""The nodes of a deployment, registered in the database: each publishes its settings there and reads the others'."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta

from sqlalchemy import Engine, delete, extract, func, select
from sqlalchemy.dialects.postgresql import insert

from app.nodes.comparison import Node, SharedClock
from app.rules.sql.models import NodeRow

LASTS = timedelta(minutes=2)  # a node without a sign of life for several looks is gone
MAX_NODES = 100  # to compare with


class Nodes:
    """The nodes as seen from the one called `name`. `own_clock` is this node's Unix time in seconds."""

    def __init__(self, engine: Engine, *, name: str, own_clock: Callable[[], float], clock: SharedClock) -> None:
        self._engine = engine
        self._name = name
        self._own_clock = own_clock
        self._clock = clock
        self._told_at: datetime | None = None

    def look(self, settings: Mapping[str, str] | None) -> list[Node]:
        """Return the other running nodes, at most MAX_NODES, and compare clocks.

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
            rows = connection.execute(others.order_by(NodeRow.name).limit(MAX_NODES))
            return [Node(name, found, float(at)) for name, found, at in rows]

    def leave(self) -> None:
        """Remove this node, so that the others stop comparing with it. Raises SQLAlchemy's errors.

        A row that another worker has written since stays: after a reload, that worker speaks for the node.
        """
        with self._engine.begin() as connection:
            connection.execute(delete(NodeRow).where(NodeRow.name == self._name, NodeRow.seen_at == self._told_at))
