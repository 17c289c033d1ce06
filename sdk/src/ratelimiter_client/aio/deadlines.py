"""Deadlines of waiting tasks by one timer of the event loop: a timer for each would cost a tenth of a check."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import math
import time
from socket import timeout as TimeIsUp
from typing import Any


class Deadlines:
    """The deadlines of one event loop. A future that is not done at its deadline (monotonic) raises socket.timeout."""

    def __init__(self) -> None:
        self._waiting: list[tuple[float, int, asyncio.Future[Any]]] = []  # a heap; numbers order equal deadlines
        self._numbers = itertools.count()
        self._timer: asyncio.TimerHandle | None = None
        self._at = math.inf  # the time at which the timer wakes

    def add(self, waiter: asyncio.Future[Any], deadline: float) -> None:
        waiting = self._waiting
        while waiting and waiting[0][2].done():
            heapq.heappop(waiting)
        heapq.heappush(waiting, (deadline, next(self._numbers), waiter))
        if deadline < self._at:
            self._wake(deadline)

    def _wake(self, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._at = at
        self._timer = asyncio.get_running_loop().call_later(max(0.0, at - time.monotonic()), self._pass)

    def _pass(self) -> None:
        self._timer, self._at = None, math.inf
        waiting, now = self._waiting, time.monotonic()
        while waiting and (waiting[0][2].done() or waiting[0][0] <= now):
            waiter = heapq.heappop(waiting)[2]
            if not waiter.done():
                waiter.set_exception(TimeIsUp("the time for the call is up"))
        if waiting:
            self._wake(waiting[0][0])
