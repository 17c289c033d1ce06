"""One trip to the service by a task: what `service.py` is for a thread."""

from __future__ import annotations

import asyncio
import os
import time
from collections import deque
from socket import timeout as TimeIsUp
from typing import TypeVar
from weakref import WeakKeyDictionary

from ratelimiter_client.aio.connection import Connection, connect
from ratelimiter_client.connections import Pool
from ratelimiter_client.core import FAILURES, Core, Process, Trip
from ratelimiter_client.endpoint import Endpoint
from ratelimiter_client.transport import Answer, left

T = TypeVar("T")


class LoopConnections(Pool[Connection]):
    """Of one event loop to one endpoint: at most `most` at a time, of which `most_idle` may wait for their next use."""

    def __init__(self, endpoint: Endpoint, most_idle: int, most: int) -> None:
        super().__init__(most_idle)
        self._endpoint = endpoint
        self._free = most
        self._waiters: deque[asyncio.Future[None]] = deque()

    async def exchange(self, request: bytes, deadline: float, most: int, *, new: bool = False) -> Answer:
        """As Connection's; over a `new` connection, or one that waits. Beyond the bound tasks queue, in time."""
        await self._slot(deadline)
        try:
            connection = None if new else self.take()
            if connection is None:
                connection = await connect(self._endpoint, deadline)
            try:
                answer = await connection.exchange(request, deadline, most)
            except BaseException:  # cancelled tasks too: the rest of the answer would meet the next request
                connection.close()
                raise
            self.put(connection, answer)
            return answer
        finally:
            self._release()

    async def _slot(self, deadline: float) -> None:
        if self._free:
            self._free -= 1
            return
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[None] = loop.create_future()
        self._waiters.append(waiter)
        timer = loop.call_later(left(deadline), _late, waiter)
        try:
            await waiter
        except BaseException:
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                self._release()  # cancelled when its turn had come
            raise
        finally:
            timer.cancel()

    def _release(self) -> None:
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return
        self._free += 1


class Connections:
    """Those of each event loop: none may use another's."""

    def __init__(self, endpoint: Endpoint, most_idle: int, most: int) -> None:
        self._endpoint, self._most_idle, self._most = endpoint, most_idle, most
        self._pid = os.getpid()
        self._loops: WeakKeyDictionary[asyncio.AbstractEventLoop, LoopConnections] = WeakKeyDictionary()

    @property
    def of_loop(self) -> LoopConnections:
        """The running one's."""
        loop = asyncio.get_running_loop()
        found = self._loops.get(loop)
        if found is None:
            found = self._loops[loop] = LoopConnections(self._endpoint, self._most_idle, self._most)
        return found

    def close(self) -> None:
        """Those of the running loop that wait. What a fork inherits is left alone: its parent's loop watches it."""
        if self._pid == os.getpid():
            self.of_loop.close()


class AsyncService(Core[Connections]):
    """The one at `endpoint`. `timeout`: seconds for a trip; waiting for a connection, connecting and the second
    attempt included."""

    def __init__(self, endpoint: Endpoint, *, timeout: float, max_idle: int, max_connections: int) -> None:
        super().__init__(endpoint, timeout, lambda: Connections(endpoint, max_idle, max_connections))

    async def ask(self, trip: Trip[T]) -> T:
        """As Service.ask."""
        process = self.admitted()
        try:
            answer = await self._exchange(process, self.request(trip), trip.most, trip.again)
            return process.heard(answer, trip.read)
        except FAILURES as error:
            raise process.failed(error) from error

    async def _exchange(self, process: Process[Connections], request: bytes, most: int, again: bool) -> Answer:
        deadline = time.monotonic() + self._timeout
        connections = process.connections.of_loop
        if not again:  # a closed connection shows itself when the loop looks, and there would be no second attempt
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        try:
            return await connections.exchange(request, deadline, most)
        except TimeIsUp:
            raise
        except OSError:
            if not again:
                raise
            return await connections.exchange(request, deadline, most, new=True)


def _late(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_exception(TimeIsUp("the time for the call is up"))
