"""One connection to Redis that all greenlets of a worker share: their commands travel together, pipelined.

Commands given in one turn of the event loop leave in one write at its end: they share a trip, and a lone one waits for
nobody. The hub reads what lies in the socket, then wakes each caller with its own replies. A connection on which Redis
was silent for the timeout, or that breaks, fails everyone whose commands were sent, once, so that no late reply can
reach a wrong caller. All of them get the same exception: it is one failure, however many it meets. Nothing is ever sent
twice.

Only Redis can be silent. Callers run after all was read and handed out. Silence counts from the end of a send with
which the waiting began, and from each sign of life: an answer, or that a full socket took more. It takes LOOKS looks
into the socket that find nothing, each a part of the timeout after the one before, and the clock is read before the
look. So a worker that is busy, or stopped, or on a machine that stands still, waits longer for Redis, never shorter.
What is outstanding is bounded by the work that it is for Redis: the rest waits here.
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

# Outstanding, by the estimates of compiled_rule.py, which are those of slow machines. Redis answers those that wait
# only after the work sent before: with a few workers that is still less than the default timeout. With half of it,
# batches cost a tenth more, since fewer of them share a write.
MAX_WORK_US = 6_000
LOOKS = 4  # a timeout: after the machine stood still, Redis has three quarters of it to answer
# Timeouts. Where connecting times out after so long, and the event loop had no turn in half of it, this worker was held
# up: nobody waited.
STALLED = 1.5


class PendingCall:
    """A greenlet, its commands, and the replies it waits for. Once it was killed the greenlet is None, and its replies
    are dropped. `work_us`: what its commands may take Redis."""

    __slots__ = ("commands", "error", "greenlet", "missing", "replies", "work_us")

    def __init__(self, greenlet: Any, commands: bytes, missing: int, work_us: int) -> None:
        self.greenlet = greenlet
        self.commands = commands
        self.missing = missing
        self.work_us = work_us
        self.replies: list[Any] = []
        self.error: RedisError | None = None

    def wake(self) -> None:
        """In the hub. What the caller raises is its own affair: others still wait."""
        if self.greenlet is not None:
            try:
                self.greenlet.switch()
            except (Exception, gevent.Timeout):
                log.exception("a caller of Redis ended with an error")


class RedisConnection:
    """Belongs to the worker whose greenlets first call it. `clock` is monotonic seconds.

    `connect` opens a wire; each of its steps takes the timeout at most. At most `max_waiting` callers wait at a time.
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
        self._work_us = 0  # of those that were sent
        self._socket: RedisSocket | None = None
        self._connecting = False
        self._flush_due = False
        self._timer: Any = None
        self._since = 0.0  # when the waiting began, or of the last sign of life
        self._looks = 0  # since then, that found nothing

    def call(self, commands: bytes, count: int, work_us: int = 0) -> list[Any]:
        """The replies to `count` packed commands, in order; an error reply is a value among them.

        Raises StoreBusy, or redis-py's ConnectionError or TimeoutError: then it is unknown what was executed.
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
        """Give the connection up, for instance because its server was demoted. The next call opens another."""
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
        """The callers to send for now. A caller that was killed while it waited sends nothing."""
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
        except Exception as error:  # a name that cannot be looked up, for instance: nobody may wait for it for ever
            self._fail(ConnectionError(f"{type(error).__name__}: {error}"))
        else:
            socket.start(self._on_replies, self._fail)
            self._socket = socket
            if self._fresh:
                self._flush()
        finally:
            self._connecting = False

    def _connected(self) -> RedisSocket:
        """A connection; once more where a step timed out because this worker was held up."""
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
        """In the hub: hand the replies out in the order of the commands, then wake callers that have all of theirs.

        Waking them through the event loop instead makes the trips a third smaller, which costs a fifth more of
        processor time: their next questions would come in one turn later.
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
        """In the hub: whether something lies in the socket, which then is in time however late this look comes."""
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
        """The connection is lost for all whose commands it took. Those not sent yet get another, but for those that
        waited behind a silent Redis."""
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
