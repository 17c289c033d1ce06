"""Listens for the database's notifications of changed rules, as hints to poll at once.

A lost notification costs only the time until the next poll. So retries need no haste, and errors stay inside.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable
from typing import Any

import gevent
from gevent.socket import wait_read
from sqlalchemy import Engine, text

from app.observability.metrics import RULES_NOTIFIED
from app.rules.sql.ruleset_version import CHANNEL

log = logging.getLogger(__name__)

FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 0.5, 15.0
# A new connection waits this long for its own test notification. A pooler in transaction mode accepts LISTEN but
# delivers nothing, because listening and notifying connections differ.
PROOF_SECONDS = 2.0
# A quiet connection is tested this often, to detect a peer that vanished silently.
TEST_AFTER_SECONDS = 30.0


class NoNotifications(Exception):
    """The database accepts LISTEN, but its notifications do not arrive."""


class ChangeListener:
    """Calls `changed` after one or several notifications, and after each new connection, since one may be lost.

    It has a connection of its own, apart from the engine's pool. `jitter` returns a factor for waits.
    """

    def __init__(self, engine: Engine, changed: Callable[[], None], jitter: Callable[[], float]) -> None:
        self._engine = engine
        self._changed = changed
        self._jitter = jitter
        self._wait_seconds = FIRST_WAIT_SECONDS
        self._receiving: bool | None = None
        self._own_channel = f"{CHANNEL}_{secrets.token_hex(8)}"

    @property
    def receiving(self) -> bool:
        """Whether notifications arrive. Otherwise only polls find changes."""
        return bool(self._receiving)

    def run(self) -> None:
        """Never returns."""
        while True:
            try:
                self._listen()
            except Exception as error:  # after any error, polls go on
                self._set_receiving(False, error)
            gevent.sleep(self._wait_seconds * self._jitter())
            self._wait_seconds = min(2 * self._wait_seconds, LONGEST_WAIT_SECONDS)

    def _listen(self) -> None:
        pooled = self._engine.raw_connection()
        connection: Any = pooled.driver_connection
        pooled.detach()
        try:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(f"LISTEN {CHANNEL}; LISTEN {self._own_channel}")
                self._changed()
                self._prove(connection, cursor)
                self._set_receiving(True)
                while True:
                    self._wait_for_notification(connection, cursor)
        finally:
            pooled.close()

    def _prove(self, connection: Any, cursor: Any) -> None:
        """Return once a notification from another connection has arrived. Raises NoNotifications on timeout."""
        proof = secrets.token_hex(8)  # random, because an older one may be pending on a pooled connection
        with self._engine.begin() as other:
            other.execute(text(f"NOTIFY {self._own_channel}, '{proof}'"))
        try:
            with gevent.Timeout(
                PROOF_SECONDS, NoNotifications("they do not arrive, as behind a pooler in transaction mode")
            ):
                while proof not in self._notifications(connection):
                    wait_read(connection.fileno())
        except NoNotifications:
            cursor.execute("UNLISTEN *")  # otherwise the pooler's own connection would keep listening
            raise

    def _set_receiving(self, now: bool, error: Exception | None = None) -> None:
        """Log one line per change, not per attempt."""
        if self._receiving is not False and not now:
            log.warning("notifications of changed rules do not arrive for now, polling goes on: %s", error)
        elif now and not self._receiving:
            self._wait_seconds = FIRST_WAIT_SECONDS
            log.info("listening for changed rules")
        self._receiving = now
        RULES_NOTIFIED.set(now)

    def _wait_for_notification(self, connection: Any, cursor: Any) -> None:
        try:
            wait_read(connection.fileno(), timeout=TEST_AFTER_SECONDS)
        except TimeoutError:
            cursor.execute("SELECT 1")
        self._notifications(connection)

    def _notifications(self, connection: Any) -> set[str]:
        """Return the payloads of the notifications that have arrived, once."""
        connection.poll()
        arrived = list(connection.notifies)
        connection.notifies.clear()
        if any(notification.channel == CHANNEL for notification in arrived):
            self._changed()
        return {notification.payload for notification in arrived}
