"""Records when keys were last used, to about a minute, without a write per request."""

from __future__ import annotations

import logging
import random
from datetime import timedelta

import gevent
from sqlalchemy import Engine, func, or_, update

from app.observability.logs import first_line
from app.rules.sql.models import ApiKeyRow

PER_KEY = timedelta(minutes=1)
WRITE_SECONDS = 10  # between two statements, with 20 % jitter

log = logging.getLogger(__name__)


class KeyUse:
    """Remembers used keys in memory; only known keys are noted, so their number is bounded."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._used: set[str] = set()

    def note(self, key_id: str) -> None:
        self._used.add(key_id)

    def write_used(self) -> None:
        """Wait, then write the noted keys."""
        gevent.sleep(WRITE_SECONDS * random.uniform(0.8, 1.2))
        try:
            self.flush()
        except Exception as error:  # only the time of last use is late
            log.warning("the last use of keys cannot be written: %s", first_line(error))

    def flush(self) -> None:
        """Write all keys noted since the last flush in one statement, each key at most once a minute.

        Raises SQLAlchemy's errors, and then keeps the keys.
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
