"""When keys were last used, to about a minute, without a write per request."""

from __future__ import annotations

import logging
import random
from datetime import timedelta

import gevent
from sqlalchemy import Engine, func, or_, update

from app.observability.logs import first_line
from app.rules.sql.models import ApiKeyRow

PER_KEY = timedelta(minutes=1)
WRITE_SECONDS = 10  # between two statements, with jitter of a fifth

log = logging.getLogger(__name__)


class KeyUse:
    """Remembers in memory which keys were used; no more of them than there are, for only known keys are noted."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._used: set[str] = set()

    def note(self, key_id: str) -> None:
        self._used.add(key_id)

    def write_used(self) -> None:
        """Wait, then write what was noted."""
        gevent.sleep(WRITE_SECONDS * random.uniform(0.8, 1.2))
        try:
            self.flush()
        except Exception as error:  # nothing but the time of a last use is late
            log.warning("the last use of keys cannot be written: %s", first_line(error))

    def flush(self) -> None:
        """One statement for all keys noted since the last one; it writes each key at most once a minute.

        Raises what SQLAlchemy raises, and then still remembers them.
        """
        if not self._used:
            return
        used, self._used = self._used, set()
        old = or_(ApiKeyRow.last_used_at.is_(None), ApiKeyRow.last_used_at < func.now() - PER_KEY)
        try:
            with self._engine.begin() as connection:
                connection.execute(update(ApiKeyRow).where(ApiKeyRow.id.in_(used), old).values(last_used_at=func.now()))
        except BaseException:
            self._used |= used
            raise
