"""A circuit breaker: after failures in a row, only one probe at a time asks the service."""

from __future__ import annotations

import logging
import threading
import time
from typing import Callable

log: logging.Logger = logging.getLogger("ratelimiter_client")

FAILURES = 5
PAUSE_SECONDS = 1.0


class Breaker:
    """Opens after 5 failures in a row; then one call a second is let through to see whether the service is back.

    `timeout`: seconds that a probe may take. Without its result, the next probe is admitted after `timeout` and a
    pause.
    """

    def __init__(self, timeout: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._probe_seconds = timeout + PAUSE_SECONDS
        self._clock = clock
        self._lock = threading.Lock()  # never held while anything waits
        self._failures = 0
        self._next_probe = 0.0
        self.since: float = time.time()  # start of the present state, Unix time

    @property
    def is_open(self) -> bool:
        """Whether calls must not ask the service."""
        return self._failures >= FAILURES

    def admits(self) -> bool:
        """Whether this call may ask the service. After True the caller calls `succeeded` or `failed`."""
        if self._failures < FAILURES:
            return True
        with self._lock:
            now = self._clock()
            if now < self._next_probe:
                return False
            self._next_probe = now + self._probe_seconds
            return True

    def succeeded(self) -> None:
        """Report an answer of the service."""
        if self._failures:  # nearly always 0: then no lock is taken
            with self._lock:
                before, self._failures = self._failures, 0
            if before >= FAILURES:
                self.since = time.time()
                log.info("the rate limiter answers again")

    def failed(self, error: Exception) -> None:
        """Report a missing or late answer."""
        with self._lock:
            self._failures += 1
            opened = self._failures == FAILURES
            self._next_probe = self._clock() + PAUSE_SECONDS
        if opened:
            self.since = time.time()
            log.warning("the rate limiter is not asked for now, %d calls in a row failed: %s", FAILURES, error)
