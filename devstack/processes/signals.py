"""Signals, delivered at known points only."""

from __future__ import annotations

import os
import select
import signal
import time
from types import FrameType
from typing import Self

STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# `kill` of a whole process group reaches us twice, directly and through `make`. Both count as one request.
SAME_REQUEST_SECONDS = 0.5


class Interrupted(Exception):
    """A request to stop, with this signal."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


class Signals:
    """While entered, a signal to stop raises Interrupted in the current or next `pause`."""

    def __enter__(self) -> Self:
        self._last_request = 0.0
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._writer, False)
        self._before = {number: signal.getsignal(number) for number in (*STOPS, signal.SIGCHLD)}
        for number, before in self._before.items():
            if number != signal.SIGHUP or before != signal.SIG_IGN:  # nohup ignores SIGHUP
                signal.signal(number, _take_note)
        signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        return self

    def __exit__(self, *_: object) -> None:
        signal.set_wakeup_fd(-1)
        for number, before in self._before.items():
            signal.signal(number, before)
        os.close(self._reader)
        os.close(self._writer)

    def pause(self, seconds: float) -> None:
        """Sleeps for that time, or until a child ends. Raises Interrupted."""
        if not select.select([self._reader], [], [], seconds)[0]:
            return
        for number in os.read(self._reader, 512):
            if number in STOPS and self._is_new_request():
                raise Interrupted(number)

    def _is_new_request(self) -> bool:
        before, self._last_request = self._last_request, time.monotonic()
        return self._last_request - before > SAME_REQUEST_SECONDS


def _take_note(_number: int, _frame: FrameType | None) -> None:
    """Does nothing: Python has already written the number to the pipe."""
