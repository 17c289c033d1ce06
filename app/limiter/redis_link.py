"""One connection to Redis that all greenlets of a worker share: their commands travel together, pipelined.

Commands given in one turn of the event loop leave in one write at its end: they share a trip, and a lone one waits for
nobody. The hub reads the replies and wakes each caller with its own. A connection on which Redis was silent for the
timeout, or that breaks, fails everyone whose commands were sent, once, so that no late reply can reach a wrong caller.
All of them get the same exception: it is one failure, however many it meets. Nothing is ever sent twice.

Silence counts from when commands were sent and nobody waited already, and from each sign of life: an answer, or that a
full socket took more. However busy this worker is, that is no silence of Redis. Steps of connecting have timeouts of
their own.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import gevent
from gevent import get_hub, getcurrent
from redis.exceptions import ConnectionError, RedisError, TimeoutError

from app.limiter.errors import StoreBusy
from app.limiter.wire import Wire


class Caller:
    """A greenlet and the replies it waits for. Once it was killed the greenlet is None, and its replies are dropped."""

    __slots__ = ("error", "greenlet", "missing", "replies")

    def __init__(self, greenlet: Any, missing: int) -> None:
        self.greenlet = greenlet
        self.missing = missing
        self.replies: list[Any] = []
        self.error: RedisError | None = None


class RedisLink:
    """Belongs to the worker whose greenlets first call it. `clock` is monotonic seconds.

    `connect` opens a wire within the timeout. At most `max_waiting` callers wait at a time.
    """

    def __init__(
        self,
        *,
        connect: Callable[[], Wire],
        timeout_seconds: float,
        max_waiting: int,
        clock: Callable[[], float],
    ) -> None:
        self._connect = connect
        self._timeout = timeout_seconds
        self._max_waiting = max_waiting
        self._clock = clock
        self._fresh: list[tuple[Caller, bytes]] = []  # not sent yet
        self._sent: deque[Caller] = deque()  # in the order of their commands
        self._wire: Wire | None = None
        self._connecting = False
        self._flush_due = False
        self._timer: Any = None
        self._until = 0.0  # when silence has lasted for the timeout

    def call(self, commands: bytes, count: int) -> list[Any]:
        """The replies to `count` packed commands, in order; an error reply is a value among them.

        Raises StoreBusy, or redis-py's ConnectionError or TimeoutError: then it is unknown what was executed.
        """
        if len(self._fresh) + len(self._sent) >= self._max_waiting:
            raise StoreBusy(f"{self._max_waiting} callers already wait for Redis")
        caller = Caller(getcurrent(), count)
        self._fresh.append((caller, commands))
        self._schedule()
        try:
            while caller.missing and caller.error is None:
                get_hub().switch()
        finally:
            caller.greenlet = None
        if caller.error is not None:
            raise caller.error
        return caller.replies

    def drop(self) -> None:
        """Give the connection up, for instance because its server was demoted. The next call opens another."""
        if self._wire is not None:
            self._fail(ConnectionError("the connection was given up"))

    def _schedule(self) -> None:
        if not self._flush_due:
            self._flush_due = True
            get_hub().loop.run_callback(self._flush)

    def _start_timer(self, seconds: float) -> None:
        self._timer = get_hub().loop.timer(seconds)
        self._timer.start(self._expire)

    def _flush(self) -> None:
        self._flush_due = False
        if self._wire is not None:
            # Who was killed before his turn sends nothing.
            fresh = [pair for pair in self._fresh if pair[0].greenlet is not None]
            self._fresh = []
            if not self._sent:
                self._wait_anew()
            if self._timer is None:
                self._start_timer(self._timeout)
            self._sent.extend([caller for caller, _ in fresh])
            self._wire.send(b"".join([commands for _, commands in fresh]))
        elif not self._connecting:
            self._connecting = True
            gevent.spawn(self._open)

    def _open(self) -> None:
        try:
            wire = self._connect()
        except RedisError as error:
            self._fail(error)
        else:
            wire.start(self._heard, self._fail)
            self._wire = wire
            if self._fresh:
                self._flush()
        finally:
            self._connecting = False

    def _wait_anew(self) -> None:
        self._until = self._clock() + self._timeout

    def _heard(self, replies: list[Any]) -> None:
        """In the hub: hand the replies out in the order of the commands, then wake who has all of his."""
        self._wait_anew()
        sent, complete, given = self._sent, [], 0
        while given < len(replies):
            if not sent:
                self._fail(ConnectionError("Redis sent an answer nobody asked for"))
                break
            caller = sent[0]
            his = replies[given : given + caller.missing]
            caller.replies += his
            caller.missing -= len(his)
            given += len(his)
            if not caller.missing:
                complete.append(sent.popleft())
        for caller in complete:
            if caller.greenlet is not None:
                caller.greenlet.switch()

    def _expire(self) -> None:
        """In the hub, when Redis may have been silent for too long. What already lies in the socket is in time."""
        self._timer.close()
        self._timer = None
        if self._wire is not None:
            self._wire.look()
        left = self._until - self._clock()
        if self._sent and left > 0:
            self._start_timer(left)
        elif self._sent:
            self._fail(TimeoutError(f"Redis did not answer within {self._timeout:g} s"))

    def _fail(self, error: RedisError) -> None:
        """The connection is lost for all whose commands it took. Those not sent yet get another."""
        if self._wire is not None:
            self._wire.close()
            self._wire = None
            lost, self._sent = list(self._sent), deque()
        else:
            lost, self._fresh = [caller for caller, _ in self._fresh], []
        self._wake(lost, error)
        if self._fresh:
            self._schedule()

    def _wake(self, callers: list[Caller], error: RedisError) -> None:
        for caller in callers:
            caller.error = error
            if caller.greenlet is not None:
                get_hub().loop.run_callback(self._switch, caller)

    @staticmethod
    def _switch(caller: Caller) -> None:
        if caller.greenlet is not None:
            caller.greenlet.switch()
