"""One trip to the service: through the breaker, within the time, once more where a connection broke."""

from __future__ import annotations

import time
from socket import timeout as TimeIsUp
from typing import TypeVar

from ratelimiter_client.connections import Connections
from ratelimiter_client.core import FAILURES, Core, Process, Trip
from ratelimiter_client.endpoint import Endpoint
from ratelimiter_client.transport import Answer

T = TypeVar("T")


class Service(Core[Connections]):
    """The one at `endpoint`. `timeout`: seconds for a trip, connecting and the second attempt included."""

    def __init__(self, endpoint: Endpoint, *, timeout: float, max_idle: int) -> None:
        super().__init__(endpoint, timeout, lambda: Connections(endpoint, max_idle))

    def ask(self, trip: Trip[T]) -> T:
        """What `read` makes of the answer. Raises RateLimiterError."""
        process = self.admitted()
        try:
            answer = self._exchange(process, self.request(trip), trip.most, trip.again)
            return process.heard(answer, trip.read)
        except FAILURES as error:
            raise process.failed(error) from error

    def _exchange(self, process: Process[Connections], request: bytes, most: int, again: bool) -> Answer:
        deadline = time.monotonic() + self._timeout
        try:
            return process.connections.exchange(request, deadline, most)
        except TimeIsUp:
            raise
        except OSError:
            if not again:
                raise
            return process.connections.exchange(request, deadline, most, new=True)
