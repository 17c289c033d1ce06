"""Idle connections, kept for their next use."""

from __future__ import annotations

from contextlib import suppress
from typing import Generic, Protocol, TypeVar

from ratelimiter_client.http.endpoint import Endpoint
from ratelimiter_client.http.transport import Answer, Connection


class Kept(Protocol):
    """The methods of a connection that a pool needs."""

    def idle(self) -> bool:
        """Whether the connection is open and silent since its last answer."""
        ...

    def close(self) -> None: ...


K = TypeVar("K", bound=Kept)


class Pool(Generic[K]):
    """Keeps at most `most_idle` connections, the last used on top. List operations are atomic, so it needs no lock."""

    def __init__(self, most_idle: int) -> None:
        self._most_idle = most_idle
        self._idle: list[K] = []

    def take(self) -> K | None:
        """A connection that is still usable, or None."""
        while True:
            try:
                connection = self._idle.pop()
            except IndexError:
                return None
            if connection.idle():
                return connection
            connection.close()

    def put(self, connection: K, answer: Answer) -> None:
        """Keep the connection for its next use, unless its last answer forbids one."""
        if not answer.reusable:
            connection.close()
            return
        self._idle.append(connection)
        if len(self._idle) > self._most_idle:
            self._drop(0)

    def close(self) -> None:
        """Close the idle connections."""
        while self._idle:
            self._drop(-1)

    def _drop(self, place: int) -> None:
        with suppress(IndexError):  # another thread took it
            self._idle.pop(place).close()


class Connections(Pool[Connection]):
    """The connections to one endpoint."""

    def __init__(self, endpoint: Endpoint, most_idle: int) -> None:
        super().__init__(most_idle)
        self._endpoint = endpoint

    def exchange(self, request: bytes, deadline: float, most: int, *, new: bool = False) -> Answer:
        """As Connection.exchange, over an idle connection, or a `new` one."""
        connection = None if new else self.take()
        if connection is None:
            connection = self._endpoint.connect(deadline)
        try:
            answer = connection.exchange(request, deadline, most)
        except BaseException:  # killed greenlets too: the rest of the answer would meet the next request
            connection.close()
            raise
        self.put(connection, answer)
        return answer
