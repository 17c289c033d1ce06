"""Batches are decided in pieces, of which few run at a time, so that single checks wait for few of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gevent
from gevent import get_hub
from gevent.lock import BoundedSemaphore

from app.rules.sync.yielding import YIELD_SECONDS


class BatchPieces:
    """`with pieces:` waits for one of `at_once` slots, and keeps it while the block runs. Belongs to one worker.

    After `seconds` of such blocks, a released slot rests until the event loop has polled its sockets, however many
    requests wait for it. `clock` is monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float], *, at_once: int, seconds: float) -> None:
        self._clock = clock
        self._seconds = seconds
        self._slots = BoundedSemaphore(at_once)
        self._looks: Any = None  # libev's check watcher: called after the event loop has polled its sockets
        self._began: float | None = None  # start of the first piece since then; None: no piece has begun

    def __enter__(self) -> None:
        self._slots.acquire()
        if self._began is None:
            self._begin()

    def __exit__(self, *_: object) -> None:
        try:
            if self._began is not None and self._clock() - self._began > self._seconds:
                gevent.sleep(YIELD_SECONDS)
        finally:
            self._slots.release()

    def give_way(self) -> None:
        """Let waiting requests go first, between two pieces of a request: the next piece would overtake them."""
        if self._slots.linkcount():
            gevent.sleep(0)

    def _begin(self) -> None:
        if self._looks is None:
            self._looks = get_hub().loop.check()
        self._began = self._clock()
        self._looks.start(self._looked)

    def _looked(self) -> None:
        self._looks.stop()
        self._began = None
