"""One pipelined connection to Redis, shared by all greenlets of a worker.

Commands from one event-loop turn leave in one write at its end. So they share a round trip, and a lone command waits
for no other. The hub reads the socket, then wakes each caller with its own replies.

A broken connection, or one on which Redis was silent for the timeout, fails all callers whose commands were sent. So no
late reply can reach a wrong caller. All of them get the same exception, because it is one failure. Nothing is ever sent
twice.

The timeout measures Redis's silence, so a busy worker does not count. Callers run only after all input was read and
handed out. The timeout starts with the first command sent, and restarts at every reply or write accepted by a full
socket. It expires after LOOKS empty looks into the socket, each a part of the timeout after the one before. Each look
reads the clock first. So a worker that is busy, stopped or on a stalled machine waits longer for Redis, never shorter.

The outstanding work for Redis is bounded; further commands wait here.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from operator import sub
from typing import Any

import gevent
from gevent import get_hub, getcurrent
from redis.exceptions import ConnectionError, RedisError, TimeoutError

from app.limiter.errors import StoreBusy
from app.limiter.redis.socket import RedisSocket

log = logging.getLogger(__name__)

# Outstanding work in microseconds, by the estimates of packing.py for slow machines. New commands wait in Redis
# for the work sent before. Even with a few workers, this is less than the default timeout. With half of it, batches
# cost a tenth more, because fewer of them share a write.
MAX_WORK_US = 6_000
LOOKS = 4  # per timeout: after the machine stood still, Redis has three quarters of it to answer
# In timeouts. This worker was held up if connecting timed out after this long, and the event loop had no turn during
# half of it.
STALLED = 1.5


class PendingCall:
    """A greenlet, its commands, and the replies it waits for. `work_us` is the estimated Redis time.

    The greenlet is None once it was killed; its replies are then dropped.
    """

    __slots__ = ("commands", "error", "greenlet", "missing", "replies", "work_us")

    def __init__(self, greenlet: Any, commands: bytes, missing: int, work_us: int) -> None:
        self.greenlet = greenlet
        self.commands = commands
        self.missing = missing
        self.work_us = work_us
        self.replies: list[Any] = []
        self.error: RedisError | None = None

    def wake(self) -> None:
        """Resume the caller, in the hub. An exception of the caller must not reach the others that still wait."""
        if self.greenlet is not None:
            try:
                self.greenlet.switch()
            except (Exception, gevent.Timeout):
                log.exception("a caller of Redis ended with an error")


class RedisConnection:
    """Belongs to the first worker whose greenlets call it. `clock` is monotonic seconds.

    `connect` opens a connection; each of its steps may take the timeout. At most `max_waiting` callers wait at a time.
    """

    def __init__(
        self,
        *,
        connect: Callable[[], RedisSocket],
        timeout_seconds: float,
        max_waiting: int,
        clock: Callable[[], float],
    ) -> None:
        self._connect = connect
        self._timeout = timeout_seconds
        self._max_waiting = max_waiting
        self._clock = clock
        self._fresh: deque[PendingCall] = deque()  # not sent yet
        self._sent: deque[PendingCall] = deque()  # in the order of their commands
        self._work_us = 0  # of the commands in `_sent`
        self._socket: RedisSocket | None = None
        self._connecting = False
        self._flush_due = False
        self._timer: Any = None
        self._since = 0.0  # when waiting began, or the last sign of life
        self._looks = 0  # empty looks since then

    def call(self, commands: bytes, count: int, work_us: int = 0) -> list[Any]:
        """Return the replies to `count` packed commands, in order. An error reply is a value among them.

        Raises StoreBusy, or redis-py's ConnectionError or TimeoutError; after these it is unknown which commands were
        run.
        """
        if len(self._fresh) + len(self._sent) >= self._max_waiting:
            raise StoreBusy(f"{self._max_waiting} callers already wait for Redis")
        caller = PendingCall(getcurrent(), commands, count, work_us)
        self._fresh.append(caller)
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
        """Give the connection up, for instance because its server was demoted. The next call opens a new one."""
        if self._socket is not None:
            self._fail(ConnectionError("the connection was closed"))

    def _schedule(self) -> None:
        if not self._flush_due:
            self._flush_due = True
            get_hub().loop.run_callback(self._flush)

    def _start_timer(self) -> None:
        self._timer = get_hub().loop.timer(self._timeout / LOOKS)
        self._timer.start(self._look)

    def _flush(self) -> None:
        self._flush_due = False
        if self._socket is not None:
            self._send(self._leaving())
        elif not self._connecting:
            self._connecting = True
            gevent.spawn(self._open)

    def _leaving(self) -> list[PendingCall]:
        """Return the callers whose commands to send now. A caller that was killed while waiting sends nothing."""
        fresh, leaving = self._fresh, []
        while fresh and (not self._work_us or self._work_us + fresh[0].work_us <= MAX_WORK_US):
            caller = fresh.popleft()
            if caller.greenlet is not None:
                self._work_us += caller.work_us
                leaving.append(caller)
        return leaving

    def _send(self, leaving: list[PendingCall]) -> None:
        begins = not self._sent
        self._sent.extend(leaving)
        if self._socket is not None:
            self._socket.send(b"".join([caller.commands for caller in leaving]))
        if begins:
            self._wait_anew()
        if self._timer is None and self._sent:
            self._start_timer()

    def _open(self) -> None:
        try:
            socket = self._connected()
        except RedisError as error:
            self._fail(error)
        except Exception as error:  # for example a host name that cannot be looked up: callers must not wait for ever
            self._fail(ConnectionError(f"{type(error).__name__}: {error}"))
        else:
            socket.start(self._on_replies, self._fail)
            self._socket = socket
            if self._fresh:
                self._flush()
        finally:
            self._connecting = False

    def _connected(self) -> RedisSocket:
        """Connect; try once more if a step timed out because this worker was held up."""
        wakeups = [self._clock()]
        timer = get_hub().loop.timer(self._timeout / LOOKS, self._timeout / LOOKS)
        timer.start(lambda: wakeups.append(self._clock()))
        try:
            return self._connect()
        except TimeoutError:
            wakeups.append(self._clock())
            stalled = STALLED * self._timeout
            if wakeups[-1] - wakeups[0] < stalled or max(map(sub, wakeups[1:], wakeups)) < stalled / 2:
                raise
        finally:
            timer.close()
        return self._connect()

    def _wait_anew(self) -> None:
        self._since, self._looks = self._clock(), 0

    def _on_replies(self, replies: list[Any]) -> None:
        """In the hub: hand out the replies in the order of the commands, then wake the callers that are complete.

        Waking them through the event loop would save a third of the round trips. It costs a fifth more CPU time,
        because their next questions then come one event-loop turn later.
        """
        self._wait_anew()
        sent, given, complete = self._sent, 0, []
        while given < len(replies):
            if not sent:
                self._fail(ConnectionError("Redis sent an answer without a request"))
                break
            caller = sent[0]
            own = replies[given : given + caller.missing]
            caller.replies += own
            caller.missing -= len(own)
            given += len(own)
            if not caller.missing:
                self._work_us -= caller.work_us
                complete.append(sent.popleft())
        if self._fresh:
            self._schedule()
        for caller in complete:
            caller.wake()

    def _look(self) -> None:
        """In the hub: read the socket. A reply that is there is in time, however late this look is."""
        self._timer.close()
        self._timer = None
        now = self._clock()
        drained = self._socket is None or self._socket.look()
        if not self._sent:
            return
        self._looks += drained and now - self._since >= (self._looks + 1) * self._timeout / LOOKS
        if self._looks < LOOKS:
            self._start_timer()
        else:
            self._fail(TimeoutError(f"Redis did not answer within {self._timeout:g} s"))

    def _fail(self, error: RedisError) -> None:
        """Close the connection and fail all callers whose commands were sent. The others get a new connection.

        After a timeout, and if connecting failed, the callers not sent yet fail as well.
        """
        lost: list[PendingCall] = []
        if self._socket is not None:
            self._socket.close()
            self._socket = None
            lost, self._sent, self._work_us = list(self._sent), deque(), 0
            silent = isinstance(error, TimeoutError)
        else:
            silent = True
        if silent:
            lost.extend(self._fresh)
            self._fresh.clear()
        for caller in lost:
            caller.error = error
            get_hub().loop.run_callback(caller.wake)
        if self._fresh:
            self._schedule()
