"""Calls of the service by a task: the asyncio counterpart of `http/service.py`."""

from __future__ import annotations

import asyncio
import os
import time
from collections import deque
from socket import timeout as TimeIsUp
from typing import Any, Callable, TypeVar

from ratelimiter_client.aio.connection import Connection, connect
from ratelimiter_client.aio.deadlines import Deadlines
from ratelimiter_client.errors import RateLimiterError
from ratelimiter_client.http.connections import Pool
from ratelimiter_client.http.core import FAILURES, Core, Process, Trip, failure
from ratelimiter_client.http.endpoint import Endpoint
from ratelimiter_client.http.transport import Answer
from ratelimiter_client.undecided import Undecided

T = TypeVar("T")


class LoopConnections(Pool[Connection]):
    """The connections of one event loop to one endpoint: at most `most` at a time, of which `most_idle` may be idle."""

    def __init__(self, loop: asyncio.AbstractEventLoop, endpoint: Endpoint, most_idle: int, most: int) -> None:
        super().__init__(most_idle)
        self._loop = loop
        self._endpoint = endpoint
        self._free = most
        self._queue: deque[asyncio.Future[Any]] = deque()
        self._deadlines = Deadlines()

    async def exchange(self, request: bytes, deadline: float, most: int, *, new: bool = False) -> Answer:
        """As Connection's of threads, over an idle connection, or a `new` one. Beyond `most`, tasks queue."""
        if self._free:
            self._free -= 1
        else:
            await self._turn(deadline)
        try:
            connection = None if new else self.take()
            if connection is None:
                connection = await connect(self._endpoint, deadline)
            waiter = self._waiter(deadline)
            try:
                connection.send(request, most, waiter)
                answer: Answer = await waiter
            except BaseException:  # cancelled tasks too: the rest of the answer would meet the next request
                waiter.cancel()
                connection.close()
                raise
            self.put(connection, answer)
            return answer
        finally:
            self._release()

    def _waiter(self, deadline: float) -> asyncio.Future[Any]:
        waiter = self._loop.create_future()
        self._deadlines.add(waiter, deadline)
        return waiter

    async def _turn(self, deadline: float) -> None:
        waiter = self._waiter(deadline)
        self._queue.append(waiter)
        try:
            await waiter
        except BaseException:
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                self._release()  # cancelled after its slot was granted
            raise

    def _release(self) -> None:
        while self._queue:
            waiter = self._queue.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return
        self._free += 1


class Connections:
    """The connections of each event loop: none may use another's."""

    def __init__(self, endpoint: Endpoint, most_idle: int, most: int) -> None:
        self._endpoint, self._most_idle, self._most = endpoint, most_idle, most
        self._pid = os.getpid()
        self._loops: dict[asyncio.AbstractEventLoop, LoopConnections] = {}

    @property
    def of_loop(self) -> LoopConnections:
        """The connections of the running loop."""
        loop = asyncio.get_running_loop()
        found = self._loops.get(loop)
        if found is None:
            for closed in [known for known in list(self._loops) if known.is_closed()]:
                self._loops.pop(closed, None)
            found = self._loops[loop] = LoopConnections(loop, self._endpoint, self._most_idle, self._most)
        return found

    def close(self) -> None:
        """Close the idle connections of the running loop. A fork leaves inherited ones alone: its parent's loop watches
        them.
        """
        if self._pid == os.getpid():
            self.of_loop.close()


class AsyncService(Core[Connections]):
    """The service at `endpoint`. `timeout`: seconds for a call, which include the wait for a connection, connecting and
    the second attempt.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        timeout: float,
        max_idle: int,
        max_connections: int,
        undecided: Callable[[], Undecided],
    ) -> None:
        super().__init__(endpoint, timeout, lambda: Connections(endpoint, max_idle, max_connections), undecided)

    async def ask(self, trip: Trip[T]) -> T:
        """As Service.ask."""
        process = self.admitted()
        try:
            result = await self._answered(process, trip)
        except RateLimiterError as error:
            process.failed(error)
            raise
        process.breaker.succeeded()
        return result

    async def probe(self, trip: Trip[T]) -> T:
        """As Service.probe."""
        return await self._answered(self.process, trip)

    async def _answered(self, process: Process[Connections], trip: Trip[T]) -> T:
        deadline = time.monotonic() + self._timeout
        request, connections = self.request(trip), process.connections.of_loop
        try:
            if not trip.again:  # without a second attempt, let the loop first notice a closed connection
                await asyncio.sleep(0)
                await asyncio.sleep(0)
            try:
                answer = await connections.exchange(request, deadline, trip.most)
            except OSError as error:
                if isinstance(error, TimeIsUp) or not trip.again:
                    raise
                answer = await connections.exchange(request, deadline, trip.most, new=True)
            return trip.result(answer)
        except FAILURES as error:
            raise failure(error) from error
