"""Ends connections that keep a worker waiting: idle ones, and those whose head does not come."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

import gevent

from app.server.sending import HURRY_SECONDS

LOOK_SECONDS = 1.0

log = logging.getLogger(__name__)


class Waiting(Protocol):
    """What may have to end."""

    def expire(self, before: float) -> None: ...


class IdleTimeouts:
    """Has `seconds` with every connection; HURRY_SECONDS while the worker is `hurried`.

    A request that comes within these before a stop is told that it was the last one there; a close might meet it.
    One look a second at all connections costs less than a timer for each request.
    """

    def __init__(self, seconds: float, hurried: Callable[[], bool]) -> None:
        self._seconds = seconds
        self._hurried = hurried
        self._connections: set[Waiting] = set()
        gevent.spawn(self._sweep)

    @contextmanager
    def watching(self, connection: Waiting) -> Iterator[None]:
        """Meanwhile the connection may be ended."""
        self._connections.add(connection)
        try:
            yield
        finally:
            self._connections.discard(connection)

    def _sweep(self) -> None:
        while True:
            gevent.sleep(LOOK_SECONDS)
            before = time.monotonic() - (HURRY_SECONDS if self._hurried() else self._seconds)
            for connection in list(self._connections):
                try:
                    connection.expire(before)
                except Exception:  # of one is not for the others
                    log.exception("a connection cannot be ended")
