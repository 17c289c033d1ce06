"""Round trips to the service without sockets: the breaker, the bytes of a request, the result of an answer."""

from __future__ import annotations

import itertools
import os
from socket import timeout as TimeIsUp
from typing import Callable, Generic, Protocol, TypeVar

from ratelimiter_client.errors import ProtocolError, RateLimiterError
from ratelimiter_client.http.answers import refusal
from ratelimiter_client.http.breaker import Breaker
from ratelimiter_client.http.endpoint import Endpoint
from ratelimiter_client.http.transport import Answer
from ratelimiter_client.undecided import Undecided

T = TypeVar("T")

MAX_ANSWER = 16 * 1024
FAILURES = (OSError, ProtocolError, ValueError, RecursionError)  # of connections, and of reading an answer


class Trip(Generic[T]):
    """A question to the service: `body`, JSON in ASCII. `read` turns its answer into the caller's result.

    `context`: further header lines. `again`: it may be sent twice. `most`: bytes of the answer's body. `limit_key`:
    that of a single check, as it is sent.
    """

    __slots__ = ("again", "body", "context", "limit_key", "most", "path", "read")

    path: str
    body: str
    read: Callable[[Answer], T]
    context: str
    again: bool
    most: int
    limit_key: str

    def __init__(
        self,
        path: str,
        body: str,
        read: Callable[[Answer], T],
        *,
        context: str = "",
        again: bool = False,
        most: int = MAX_ANSWER,
        limit_key: str = "",
    ) -> None:
        self.path, self.body, self.read, self.context, self.again, self.most = path, body, read, context, again, most
        self.limit_key = limit_key

    def result(self, answer: Answer) -> T:
        """The result of an answer. Raises RateLimiterError for a refusal, one of FAILURES for an invalid answer."""
        if answer.status == 200:
            return self.read(answer)
        raise refusal(answer)


class Closing(Protocol):
    """The method of connections that this file needs."""

    def close(self) -> None: ...


C = TypeVar("C", bound=Closing)


class Process(Generic[C]):
    """State that a fork must not share with its parent: sockets, a lock, ids of requests."""

    def __init__(self, connections: C, timeout: float, undecided: Undecided) -> None:
        self.connections = connections
        self.breaker: Breaker = Breaker(timeout)
        self.undecided = undecided
        self.asked = 0  # checks, and trips of other kinds
        self._start = os.urandom(12).hex()  # not `random`: a child may go on with its parent's
        self._numbers = itertools.count()

    def new_id(self) -> str:
        """A new id, unique among all requests."""
        return f"{self._start}-{next(self._numbers):x}"

    def failed(self, error: RateLimiterError) -> None:
        """Report a failed round trip."""
        if error.status is not None and (error.status < 500 or error.status == 503):
            self.breaker.succeeded()  # 503: the service is there, and may decide checks of other rules
        else:
            self.breaker.failed(error)


class Core(Generic[C]):
    """The service at `endpoint`; `timeout` is seconds for a round trip.

    For each process, `connect()` makes the connections and `undecided()` the count of undecided checks.
    """

    def __init__(
        self, endpoint: Endpoint, timeout: float, connect: Callable[[], C], undecided: Callable[[], Undecided]
    ) -> None:
        self._endpoint = endpoint
        self._timeout = timeout
        self._connect = connect
        self._undecided = undecided
        self._processes: dict[int, Process[C]] = {}

    @property
    def process(self) -> Process[C]:
        """The state of this process, found by its pid: not every server that forks tells Python
        (os.register_at_fork).
        """
        pid = os.getpid()
        return self._processes.get(pid) or self._begin(pid)

    def admitted(self) -> Process[C]:
        """The state of this process, if its breaker admits a call. Raises RateLimiterError."""
        process = self.process
        process.asked += 1
        if not process.breaker.admits():
            message = "the service is not asked for now, it failed too often in a row"
            raise RateLimiterError(message, reason="not_asked")
        return process

    def request(self, trip: Trip[T]) -> bytes:
        """The bytes to send."""
        head = f"POST {self._endpoint.prefix}{trip.path} HTTP/1.1\r\n{self._endpoint.fields}{trip.context}"
        return f"{head}Content-Length: {len(trip.body)}\r\n\r\n{trip.body}".encode("ascii")

    def connect_by(self, connect: Callable[[], C]) -> None:
        """Use the connections that `connect` makes from now on."""
        self._connect = connect
        self._processes.clear()

    def _begin(self, pid: int) -> Process[C]:
        for other in [known for known in list(self._processes) if known != pid]:
            inherited = self._processes.pop(other, None)
            if inherited is not None:
                inherited.connections.close()  # closes them here only; the parent goes on with them
        return self._processes.setdefault(pid, Process(self._connect(), self._timeout, self._undecided()))


def failure(error: Exception) -> RateLimiterError:
    """The exception for one of FAILURES; its reason is one of errors.REASONS."""
    reason = "not_reached" if isinstance(error, OSError) else "no_answer"
    if isinstance(error, TimeIsUp):  # TimeIsUp is an OSError too
        reason = "timed_out"
    return RateLimiterError(f"{type(error).__name__}: {error}", reason=reason)
