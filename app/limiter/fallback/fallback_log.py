"""Logs one line when the decider of a node's checks changes: Redis, or a fail_mode instead."""

from __future__ import annotations

import logging
from collections.abc import Callable

from app.limiter.breaker.node_lock import NodeLock
from app.observability.shared_memory import shared_memory
from app.rules.rule import FAIL_MODES

CALM_SECONDS = 10.0  # without a fallback before Redis counts as recovered: an intermittent fault is one fault
_MODES, _LAST = range(2)
_LEASES = 1 << len(FAIL_MODES)

log = logging.getLogger(__name__)


class FallbackLog:
    """Made before the fork. `clock` is monotonic seconds, the node's own."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        memory = shared_memory(16)
        # One bit per fail_mode in use and one for refused leases, written under the lock; then the time of the last
        # fallback.
        self._integers, self._times = memory.cast("Q"), memory.cast("d")
        self._lock = NodeLock()

    def fell_back(self, mode: str, reason: object) -> None:
        """Note that `mode` decided a check because Redis failed with `reason`."""
        if self._begins(1 << FAIL_MODES.index(mode)):
            log.warning("Redis does not decide all checks; instead fail_mode %s decides: %s", mode, reason)

    def refused_lease(self, reason: object) -> None:
        """Note that a lease was refused because Redis failed with `reason`."""
        if self._begins(_LEASES):
            log.warning("Redis cannot grant leases, so they are refused: %s", reason)

    def _begins(self, bit: int) -> bool:
        """Whether this is the first fallback of its kind since Redis recovered."""
        self._times[_LAST] = self._clock()
        if self._integers[_MODES] & bit:
            return False
        with self._lock:
            before = self._integers[_MODES]
            self._integers[_MODES] = before | bit
        return not before & bit

    def redis_decided(self) -> None:
        """Note that Redis decided a round trip. Usually there is nothing to log, and this reads one word."""
        if self._integers[_MODES] and self._clock() - self._times[_LAST] >= CALM_SECONDS:
            with self._lock:
                before, self._integers[_MODES] = self._integers[_MODES], 0
            if before:
                log.info("Redis decides all checks again")
