"""Long requests are worked on in pieces: a worker has few of them under way, so that single checks wait for few."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import gevent
from gevent import get_hub
from gevent.lock import BoundedSemaphore

from app.rules.pace import PIECE_SECONDS, REST_SECONDS

AT_ONCE = 2  # one works, while the other waits for Redis


class Pieces:
    """Belongs to one worker. `clock` is monotonic seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._slots = BoundedSemaphore(AT_ONCE)
        self._looks: Any = None  # tells when the event loop has looked at its sockets
        self._began: float | None = None  # the first piece since then

    @contextmanager
    def piece(self) -> Iterator[None]:
        """Wait for a slot, and keep it while the block runs.

        After PIECE_SECONDS of pieces the slot rests until the event loop has looked at its sockets, however many
        requests wait for it.
        """
        with self._slots:
            if self._began is None:
                self._begin()
            yield
            if self._began is not None and self._clock() - self._began > PIECE_SECONDS:
                gevent.sleep(REST_SECONDS)

    def _begin(self) -> None:
        if self._looks is None:
            self._looks = get_hub().loop.check()
        self._began = self._clock()
        self._looks.start(self._looked)

    def _looked(self) -> None:
        self._looks.stop()
        self._began = None
