"""One log line per change of what decides the checks of a node: Redis, or a fail_mode in its stead.."""

from __future__ import annotations

import logging
from collections.abc import Callable

from app.limiter.breaker.node_lock import NodeLock
from app.observability.shared_memory import shared_memory
from app.rules.rule import FAIL_MODES

CALM_SECONDS = 10.0  # without a fallback before Redis is said to decide again: a fault that comes and goes is one fault
_MODES, _LAST = range(2)
_LEASES = 1 << len(FAIL_MODES)

log = logging.getLogger(__name__)


class FallbackLog:
    """Made before the fork. `clock` is monotonic seconds, the node's own."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        memory = shared_memory(16)
        # A bit for each fail_mode in use, one for refused leases, written under the lock; when anybody last fell back.
        self._integers, self._times = memory.cast("Q"), memory.cast("d")
        self._lock = NodeLock()

    def fell_back(self, mode: str, reason: object) -> None:
        """`mode` decided a check, since Redis did not because of `reason`."""
        if self._begins(1 << FAIL_MODES.index(mode)):
            log.warning("Redis does not decide all checks; instead fail_mode %s decides: %s", mode, reason)

    def refused_lease(self, reason: object) -> None:
        """Redis did not grant or take back a lease because of `reason`, and nothing else does."""
        if self._begins(_LEASES):
            log.warning("Redis cannot grant leases, so they are refused: %s", reason)

    def _begins(self, bit: int) -> bool:
        """Whether this is the first of its kind since all was well."""
        self._times[_LAST] = self._clock()
        if self._integers[_MODES] & bit:
            return False
        with self._lock:
            before = self._integers[_MODES]
            self._integers[_MODES] = before | bit
        return not before & bit

    def redis_decided(self) -> None:
        """Redis decided a trip. Nearly always nothing was to be logged, and this reads one word."""
        if self._integers[_MODES] and self._clock() - self._times[_LAST] >= CALM_SECONDS:
            with self._lock:
                before, self._integers[_MODES] = self._integers[_MODES], 0
            if before:
                log.info("Redis decides all checks again")
