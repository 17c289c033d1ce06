"""Calls of the service: through the breaker, within the timeout, with a second attempt if a connection broke."""

from __future__ import annotations

import time
from socket import timeout as TimeIsUp
from typing import Callable, TypeVar

from ratelimiter_client.errors import RateLimiterError
from ratelimiter_client.http.connections import Connections
from ratelimiter_client.http.core import FAILURES, Core, Process, Trip, failure
from ratelimiter_client.http.endpoint import Endpoint
from ratelimiter_client.http.transport import Answer
from ratelimiter_client.undecided import Undecided

T = TypeVar("T")


class Service(Core[Connections]):
    """The service at `endpoint`. `timeout`: seconds for a call, connecting and the second attempt included."""

    def __init__(
        self, endpoint: Endpoint, *, timeout: float, max_idle: int, undecided: Callable[[], Undecided]
    ) -> None:
        super().__init__(endpoint, timeout, lambda: Connections(endpoint, max_idle), undecided)

    def ask(self, trip: Trip[T]) -> T:
        """The result of the round trip. Raises RateLimiterError."""
        process = self.admitted()
        try:
            result = self._answered(process, trip)
        except RateLimiterError as error:
            process.failed(error)
            raise
        process.breaker.succeeded()
        return result

    def probe(self, trip: Trip[T]) -> T:
        """As `ask`, but the breaker neither prevents it nor counts its result."""
        return self._answered(self.process, trip)

    def _answered(self, process: Process[Connections], trip: Trip[T]) -> T:
        try:
            return trip.result(self._exchange(process, self.request(trip), trip.most, trip.again))
        except FAILURES as error:
            raise failure(error) from error

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
