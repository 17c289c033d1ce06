"""Deadlines of what tasks wait for, by one timer of the event loop: a timer for each would be a tenth of a check."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from socket import timeout as TimeIsUp
from typing import Any


class Deadlines:
    """Of one event loop. Each future that is not done at its deadline (monotonic) raises socket.timeout then.

    Deadlines come in their order, as those of one timeout do; one that came out of it would end with the one before.
    """

    def __init__(self) -> None:
        self._waiting: deque[tuple[float, asyncio.Future[Any]]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def add(self, waiter: asyncio.Future[Any], deadline: float) -> None:
        waiting = self._waiting
        while waiting and waiting[0][1].done():
            waiting.popleft()
        waiting.append((deadline, waiter))
        if self._timer is None:
            self._wake(deadline)

    def _wake(self, at: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(max(0.0, at - time.monotonic()), self._pass)

    def _pass(self) -> None:
        self._timer = None
        waiting, now = self._waiting, time.monotonic()
        while waiting and (waiting[0][1].done() or waiting[0][0] <= now):
            _, waiter = waiting.popleft()
            if not waiter.done():
                waiter.set_exception(TimeIsUp("the time for the call is up"))
        if waiting:
            self._wake(waiting[0][0])
