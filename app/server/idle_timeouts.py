"""Ends connections that keep a worker waiting: idle ones, and those with an incomplete head."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

import gevent

from app.server.sending import HURRY_SECONDS

SWEEP_SECONDS = 1.0

log = logging.getLogger(__name__)


class Waiting(Protocol):
    """A connection that may have waited too long."""

    def expire(self, before: float) -> None: ...


class IdleTimeouts:
    """Ends a connection that has waited for `seconds`, or for HURRY_SECONDS while the worker is `hurried`.

    When a worker stops, a request that arrives within HURRY_SECONDS is answered with Connection: close, because an
    immediate close could race with it. Checking all connections once a second costs less than a timer for each request.
    """

    def __init__(self, seconds: float, hurried: Callable[[], bool]) -> None:
        self._seconds = seconds
        self._hurried = hurried
        self._connections: set[Waiting] = set()
        gevent.spawn(self._sweep)

    @contextmanager
    def watching(self, connection: Waiting) -> Iterator[None]:
        """End the connection within this block if it waits too long."""
        self._connections.add(connection)
        try:
            yield
        finally:
            self._connections.discard(connection)

    def _sweep(self) -> None:
        while True:
            gevent.sleep(SWEEP_SECONDS)
            before = time.monotonic() - (HURRY_SECONDS if self._hurried() else self._seconds)
            for connection in list(self._connections):
                try:
                    connection.expire(before)
                except Exception:  # a failure of one connection must not affect the others
                    log.exception("a connection cannot be ended")
