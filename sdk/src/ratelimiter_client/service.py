"""One trip to the service: through the breaker, within the time, once more where a connection broke."""

from __future__ import annotations

import itertools
import os
import time
from socket import timeout as TimeIsUp
from typing import Callable, TypeVar

from ratelimiter_client.answers import refusal
from ratelimiter_client.breaker import Breaker
from ratelimiter_client.connections import Connections
from ratelimiter_client.endpoint import Endpoint
from ratelimiter_client.errors import ProtocolError, RateLimiterError
from ratelimiter_client.transport import Answer
from ratelimiter_client.undecided import Undecided

T = TypeVar("T")

MAX_ANSWER = 16 * 1024


class Process:
    """What a fork must not share with its parent: sockets, a lock, ids of requests."""

    def __init__(self, endpoint: Endpoint, max_idle: int, timeout: float, undecided: Undecided) -> None:
        self.connections = Connections(endpoint, max_idle)
        self.breaker = Breaker(timeout)
        self.undecided = undecided
        self.rules_seen: dict[int | str, str] = {}  # a limit key that the rule decided
        self.asked = 0  # trips
        self._start = os.urandom(12).hex()  # not `random`: a child may go on with its parent's
        self._numbers = itertools.count()

    def new_id(self) -> str:
        """An id of a request that no other request has."""
        return f"{self._start}-{next(self._numbers):x}"


class Service:
    """The one at `endpoint`. `timeout`: seconds for a trip, connecting and the second attempt included.

    `undecided` makes a process's count of what was not decided.
    """

    def __init__(
        self, endpoint: Endpoint, *, timeout: float, max_idle: int, undecided: Callable[[], Undecided]
    ) -> None:
        self._endpoint = endpoint
        self._timeout = timeout
        self._max_idle = max_idle
        self._undecided = undecided
        self._processes: dict[int, Process] = {}

    @property
    def process(self) -> Process:
        """This one's. By its pid, as not every server that forks tells Python of it (os.register_at_fork)."""
        pid = os.getpid()
        return self._processes.get(pid) or self._begin(pid)

    def ask(
        self,
        path: str,
        body: bytes,
        read: Callable[[Answer], T],
        *,
        context: str = "",
        again: bool = False,
        most: int = MAX_ANSWER,
    ) -> T:
        """What `read` makes of the answer, whose body is at most `most` bytes. Raises RateLimiterError.

        `context`: further header lines. `again`: it may be sent twice.
        """
        process = self.process
        process.asked += 1
        if not process.breaker.admits():
            message = "the service is not asked for now, it failed too often in a row"
            raise RateLimiterError(message, reason="not_asked")
        try:
            result = self._answered(process, self._request(path, body, context), read, most, again)
        except RateLimiterError as error:
            if error.status is not None and (error.status < 500 or error.status == 503):
                process.breaker.succeeded()  # 503: it is there, and may well decide by other rules
            else:
                process.breaker.failed(error)
            raise
        process.breaker.succeeded()
        return result

    def probe(self, path: str, body: bytes, read: Callable[[Answer], T]) -> T:
        """As `ask`, whatever the breaker says, and it learns nothing."""
        return self._answered(self.process, self._request(path, body, ""), read, MAX_ANSWER, again=True)

    def _answered(self, process: Process, request: bytes, read: Callable[[Answer], T], most: int, again: bool) -> T:
        try:
            answer = self._exchange(process, request, most, again)
            if answer.status == 200:
                return read(answer)
        except (OSError, ProtocolError, ValueError, RecursionError) as error:
            raise RateLimiterError(f"{type(error).__name__}: {error}", reason=_reason(error)) from error
        raise refusal(answer)

    def _exchange(self, process: Process, request: bytes, most: int, again: bool) -> Answer:
        deadline = time.monotonic() + self._timeout
        try:
            return process.connections.exchange(request, deadline, most)
        except TimeIsUp:
            raise
        except OSError:
            if not again:
                raise
            return process.connections.exchange(request, deadline, most, new=True)

    def _request(self, path: str, body: bytes, context: str) -> bytes:
        endpoint = self._endpoint
        head = f"POST {endpoint.prefix}{path} HTTP/1.1\r\n{endpoint.fields}{context}Content-Length: {len(body)}\r\n\r\n"
        return head.encode() + body

    def _begin(self, pid: int) -> Process:
        for other in [known for known in list(self._processes) if known != pid]:
            inherited = self._processes.pop(other, None)
            if inherited is not None:
                inherited.connections.close()  # here alone; the parent goes on with them
        process = Process(self._endpoint, self._max_idle, self._timeout, self._undecided())
        return self._processes.setdefault(pid, process)


def _reason(error: Exception) -> str:
    """One of errors.REASONS."""
    if isinstance(error, TimeIsUp):
        return "timed_out"
    return "not_reached" if isinstance(error, OSError) else "no_answer"
