"""What a trip to the service is, without its sockets: the breaker, the request's bytes, the verdict on an answer."""

from __future__ import annotations

import itertools
import os
from typing import Callable, Generic, Protocol, TypeVar

from ratelimiter_client.answers import refusal
from ratelimiter_client.breaker import Breaker
from ratelimiter_client.endpoint import Endpoint
from ratelimiter_client.errors import ProtocolError, RateLimiterError
from ratelimiter_client.transport import Answer

T = TypeVar("T")

MAX_ANSWER = 16 * 1024
FAILURES = (OSError, ProtocolError, ValueError, RecursionError)  # of connections and of reading an answer


class Trip(Generic[T]):
    """A question to the service, and `read`, which makes of its answer what the caller gets.

    `context`: further header lines. `again`: it may be sent twice. `most`: bytes of the answer's body.
    """

    __slots__ = ("again", "body", "context", "most", "path", "read")

    def __init__(
        self,
        path: str,
        body: bytes,
        read: Callable[[Answer], T],
        *,
        context: str = "",
        again: bool = False,
        most: int = MAX_ANSWER,
    ) -> None:
        self.path, self.body, self.read, self.context, self.again, self.most = path, body, read, context, again, most


class Closing(Protocol):
    """What this file needs of connections."""

    def close(self) -> None: ...


C = TypeVar("C", bound=Closing)


class Process(Generic[C]):
    """What a fork must not share with its parent: sockets, a lock, ids of requests."""

    def __init__(self, connections: C, timeout: float) -> None:
        self.connections = connections
        self.breaker = Breaker(timeout)
        self.logged: set[int] = set()  # statuses
        self._start = os.urandom(12).hex()  # not `random`: a child may go on with its parent's
        self._numbers = itertools.count()

    def new_id(self) -> str:
        """An id of a request that no other request has."""
        return f"{self._start}-{next(self._numbers):x}"

    def heard(self, answer: Answer, read: Callable[[Answer], T]) -> T:
        """What `read` makes of the answer. Raises RateLimiterError for a refusal, one of FAILURES for nonsense."""
        if answer.status == 200:
            result = read(answer)
            self.breaker.succeeded()
            return result
        refused = refusal(answer)
        if answer.status < 500 or answer.status == 503:  # 503: it is there, and may well decide by other rules
            self.breaker.succeeded()
        else:
            self.breaker.failed(refused)
        raise refused

    def failed(self, error: Exception) -> RateLimiterError:
        """What to raise for one of FAILURES."""
        self.breaker.failed(error)
        return RateLimiterError(f"{type(error).__name__}: {error}")


class Core(Generic[C]):
    """The service at `endpoint`, asked over what `connect()` makes for each process. `timeout`: seconds for a trip."""

    def __init__(self, endpoint: Endpoint, timeout: float, connect: Callable[[], C]) -> None:
        self._endpoint = endpoint
        self._timeout = timeout
        self._connect = connect
        self._processes: dict[int, Process[C]] = {}

    @property
    def process(self) -> Process[C]:
        """This one's. By its pid, as not every server that forks tells Python of it (os.register_at_fork)."""
        pid = os.getpid()
        return self._processes.get(pid) or self._begin(pid)

    def admitted(self) -> Process[C]:
        """This process, where its breaker lets a trip through. Raises RateLimiterError."""
        process = self.process
        if not process.breaker.admits():
            raise RateLimiterError("the service is not asked for now, it failed too often in a row")
        return process

    def connect_by(self, connect: Callable[[], C]) -> None:
        """Ask over what this makes from now on."""
        self._connect = connect
        self._processes.clear()

    def request(self, trip: Trip[T]) -> bytes:
        """The bytes to send."""
        head = f"POST {self._endpoint.prefix}{trip.path} HTTP/1.1\r\n{self._endpoint.fields}{trip.context}"
        return f"{head}Content-Length: {len(trip.body)}\r\n\r\n".encode() + trip.body

    def _begin(self, pid: int) -> Process[C]:
        for other in [known for known in list(self._processes) if known != pid]:
            inherited = self._processes.pop(other, None)
            if inherited is not None:
                inherited.connections.close()  # here alone; the parent goes on with them
        return self._processes.setdefault(pid, Process(self._connect(), self._timeout))
