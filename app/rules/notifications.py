"""Listens for the database's word that the rules have changed. A hint: it makes the next poll come at once.

A lost notification costs no more than the time to that poll, so nothing here is retried in haste, and no error matters
to anybody else.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import gevent
from gevent.socket import wait_read
from sqlalchemy import Engine

from app.rules.editions import CHANNEL

log = logging.getLogger(__name__)

FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 0.5, 15.0
# So often a quiet connection is asked whether it is still one: a peer that vanished without a word is found out.
SILENCE_SECONDS = 30.0


class ChangeListener:
    """Calls `changed` after each notification, or once after several, and after each new connection: one may be lost.

    Its connection is its own, apart from the engine's pool. `jitter` gives a factor for waits.
    """

    def __init__(self, engine: Engine, changed: Callable[[], None], jitter: Callable[[], float]) -> None:
        self._engine = engine
        self._changed = changed
        self._jitter = jitter
        self._wait_seconds = FIRST_WAIT_SECONDS
        self._hearing: bool | None = None

    def run(self) -> None:
        """Never returns."""
        while True:
            try:
                self._listen()
            except Exception as error:  # whatever it is, polls go on
                self._hears(False, error)
            gevent.sleep(self._wait_seconds * self._jitter())
            self._wait_seconds = min(2 * self._wait_seconds, LONGEST_WAIT_SECONDS)

    def _listen(self) -> None:
        pooled = self._engine.raw_connection()
        connection: Any = pooled.driver_connection
        pooled.detach()
        try:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(f"LISTEN {CHANNEL}")
                self._hears(True)
                self._changed()
                while True:
                    self._await_word(connection, cursor)
        finally:
            pooled.close()

    def _hears(self, now: bool, error: Exception | None = None) -> None:
        """One line per change, not per attempt."""
        if self._hearing is not False and not now:
            log.warning("no notifications of changed rules for now, polls go on: %s", error)
        elif now and not self._hearing:
            self._wait_seconds = FIRST_WAIT_SECONDS
            log.info("listening for changed rules")
        self._hearing = now

    def _await_word(self, connection: Any, cursor: Any) -> None:
        try:
            wait_read(connection.fileno(), timeout=SILENCE_SECONDS)
        except TimeoutError:
            cursor.execute("SELECT 1")
        connection.poll()
        if connection.notifies:
            connection.notifies.clear()
            self._changed()
