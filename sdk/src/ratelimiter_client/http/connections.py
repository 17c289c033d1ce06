"""Connections that wait for their next use."""

from __future__ import annotations

from contextlib import suppress
from typing import Generic, Protocol, TypeVar

from ratelimiter_client.http.endpoint import Endpoint
from ratelimiter_client.http.transport import Answer, Connection


class Kept(Protocol):
    """What a pool needs of a connection."""

    def idle(self) -> bool:
        """Whether nothing has come on it since its last answer."""

    def close(self) -> None: ...


K = TypeVar("K", bound=Kept)


class Pool(Generic[K]):
    """At most `most_idle` wait at a time, the last used on top. Lists need no lock of ours."""

    def __init__(self, most_idle: int) -> None:
        self._most_idle = most_idle
        self._idle: list[K] = []

    def take(self) -> K | None:
        """One that is still good, if there is one."""
        while True:
            try:
                connection = self._idle.pop()
            except IndexError:
                return None
            if connection.idle():
                return connection
            connection.close()

    def put(self, connection: K, answer: Answer) -> None:
        """Keep it for its next use, unless its last answer says that there is none."""
        if not answer.reusable:
            connection.close()
            return
        self._idle.append(connection)
        if len(self._idle) > self._most_idle:
            self._drop(0)

    def close(self) -> None:
        """Close those that wait."""
        while self._idle:
            self._drop(-1)

    def _drop(self, place: int) -> None:
        with suppress(IndexError):  # another thread took it
            self._idle.pop(place).close()


class Connections(Pool[Connection]):
    """To one endpoint."""

    def __init__(self, endpoint: Endpoint, most_idle: int) -> None:
        super().__init__(most_idle)
        self._endpoint = endpoint

    def exchange(self, request: bytes, deadline: float, most: int, *, new: bool = False) -> Answer:
        """As Connection's; over a `new` connection, or one that waits."""
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
