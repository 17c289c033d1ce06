"""Connections that wait for their next use."""

from __future__ import annotations

from contextlib import suppress

from ratelimiter_client.endpoint import Endpoint
from ratelimiter_client.transport import Answer, Connection


class Connections:
    """To one endpoint; at most `most_idle` wait at a time, the last used on top. Lists need no lock of ours."""

    def __init__(self, endpoint: Endpoint, most_idle: int) -> None:
        self._endpoint = endpoint
        self._most_idle = most_idle
        self._idle: list[Connection] = []

    def exchange(self, request: bytes, deadline: float, most: int, *, new: bool = False) -> Answer:
        """As Connection's; over a `new` connection, or one that waits."""
        connection = None if new else self._waiting()
        if connection is None:
            connection = self._endpoint.connect(deadline)
        try:
            answer = connection.exchange(request, deadline, most)
        except BaseException:  # killed greenlets too: the rest of the answer would meet the next request
            connection.close()
            raise
        if answer.reusable:
            self._keep(connection)
        else:
            connection.close()
        return answer

    def close(self) -> None:
        """Close those that wait."""
        while self._idle:
            self._drop(-1)

    def _waiting(self) -> Connection | None:
        while True:
            try:
                connection = self._idle.pop()
            except IndexError:
                return None
            if connection.idle():
                return connection
            connection.close()

    def _keep(self, connection: Connection) -> None:
        self._idle.append(connection)
        if len(self._idle) > self._most_idle:
            self._drop(0)

    def _drop(self, place: int) -> None:
        with suppress(IndexError):  # another thread took it
            self._idle.pop(place).close()
