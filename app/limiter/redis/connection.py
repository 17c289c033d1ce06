"""One pipelined connection to Redis, shared by all greenlets of a worker.

Commands from one event-loop turn leave in one write at its end. So they share a round trip, and a lone command waits
for no other. The hub reads the socket, then wakes each caller with its own replies.

A broken connection, or one on which Redis was silent for the timeout, fails all callers whose commands were sent. So no
late reply can reach a wrong caller. All of them get the same exception, because it is one failure. Nothing is ever sent
twice.

The timeout measures Redis's silence, so a busy worker does not count. Callers run only after all input was read and
handed out. The timeout starts with the first command sent, and restarts at every reply or write accepted by a full
socket. It expires after READS_PER_TIMEOUT reads that found the socket empty, each a part of the timeout after the one
before. Each reads the clock first. So a worker that is busy, stopped or on a stalled machine waits longer for Redis,
never shorter.

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
READS_PER_TIMEOUT = 4  # after the machine stood still, Redis has three quarters of the timeout to answer
# A factor of the timeout. The worker was stalled if connecting took that long and the event loop had no turn for half
# of it.
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
        self._unsent: deque[PendingCall] = deque()
        self._sent: deque[PendingCall] = deque()  # in the order of their commands
        self._work_us = 0  # of the commands in `_sent`
        self._socket: RedisSocket | None = None
        self._connecting = False
        self._flush_due = False
        self._timer: Any = None
        self._since = 0.0  # when waiting began, or the last sign of life
        self._empty_reads = 0  # reads since then that found the socket empty

    def call(self, commands: bytes, count: int, work_us: int = 0) -> list[Any]:
        """Return the replies to `count` packed commands, in order. An error reply is a value among them.

        Raises StoreBusy, or redis-py's ConnectionError or TimeoutError; after these it is unknown which commands were
        run.
        """
        if len(self._unsent) + len(self._sent) >= self._max_waiting:
            raise StoreBusy(f"{self._max_waiting} callers already wait for Redis")
        pending = PendingCall(getcurrent(), commands, count, work_us)
        self._unsent.append(pending)
        self._schedule()
        try:
            while pending.missing and pending.error is None:
                get_hub().switch()
        finally:
            pending.greenlet = None
        if pending.error is not None:
            raise pending.error
        return pending.replies

    def drop(self) -> None:
        """Give the connection up, for instance because its server was demoted. The next call opens a new one."""
        if self._socket is not None:
            self._fail(ConnectionError("the connection was closed"))

    def _schedule(self) -> None:
        if not self._flush_due:
            self._flush_due = True
            get_hub().loop.run_callback(self._flush)

    def _start_timer(self) -> None:
        self._timer = get_hub().loop.timer(self._timeout / READS_PER_TIMEOUT)
        self._timer.start(self._read_socket)

    def _flush(self) -> None:
        self._flush_due = False
        if self._socket is not None:
            self._send(self._take_sendable())
        elif not self._connecting:
            self._connecting = True
            gevent.spawn(self._open)

    def _take_sendable(self) -> list[PendingCall]:
        """Return the callers whose commands to send now. A caller that was killed while waiting sends nothing."""
        unsent, sendable = self._unsent, []
        while unsent and (not self._work_us or self._work_us + unsent[0].work_us <= MAX_WORK_US):
            call = unsent.popleft()
            if call.greenlet is not None:
                self._work_us += call.work_us
                sendable.append(call)
        return sendable

    def _send(self, sendable: list[PendingCall]) -> None:
        begins = not self._sent
        self._sent.extend(sendable)
        if self._socket is not None:
            self._socket.send(b"".join([call.commands for call in sendable]))
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
            if self._unsent:
                self._flush()
        finally:
            self._connecting = False

    def _connected(self) -> RedisSocket:
        """Connect; try once more if a step timed out because this worker was stalled."""
        wakeups = [self._clock()]
        timer = get_hub().loop.timer(self._timeout / READS_PER_TIMEOUT, self._timeout / READS_PER_TIMEOUT)
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
        self._since, self._empty_reads = self._clock(), 0

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
            pending = sent[0]
            own = replies[given : given + pending.missing]
            pending.replies += own
            pending.missing -= len(own)
            given += len(own)
            if not pending.missing:
                self._work_us -= pending.work_us
                complete.append(sent.popleft())
        if self._unsent:
            self._schedule()
        for pending in complete:
            pending.wake()

    def _read_socket(self) -> None:
        """In the hub: read the socket. A reply that is there is in time, however late this read is."""
        self._timer.close()
        self._timer = None
        now = self._clock()
        empty = self._socket is None or self._socket.send_and_read()
        if not self._sent:
            return
        if empty and now - self._since >= (self._empty_reads + 1) * self._timeout / READS_PER_TIMEOUT:
            self._empty_reads += 1
        if self._empty_reads < READS_PER_TIMEOUT:
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
            fail_unsent = isinstance(error, TimeoutError)
        else:
            fail_unsent = True
        if fail_unsent:
            lost.extend(self._unsent)
            self._unsent.clear()
        for pending in lost:
            pending.error = error
            get_hub().loop.run_callback(pending.wake)
        if self._unsent:
            self._schedule()
