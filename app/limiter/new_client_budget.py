"""A budget of new clients: beyond it, those not seen lately share one counter per rule.

So a flood of invented client ids costs Redis at most the budget in keys, and who is known keeps his own counter. Who is
known is told by a Bloom filter (Bloom, 1970) whose bits are the minutes in which they were set, so that it forgets by
itself: a client is known when all its marks are recent. With 100,000 known clients 1 in 1,000 unknown is taken for one.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from hashlib import blake2b
from struct import Struct

from msgspec.structs import replace

from app.limiter.decision import Check
from app.observability.shared_memory import shared_memory

SLOTS = 1 << 21  # of four bytes: 8 MiB a node
KNOWN_MINUTES = 10
_marks = Struct("<4I").unpack


class NewClientBudget:
    """Made before the fork: the workers of a node know the same clients. `clock` is monotonic seconds.

    `per_minute`: of the node. Each of its `workers` spends its own part, at least one.
    """

    def __init__(self, *, per_minute: int, workers: int, clock: Callable[[], float]) -> None:
        self._per_minute = max(1, per_minute // workers)
        self._clock = clock
        self._minutes = shared_memory(SLOTS * 4).cast("I")  # in which each mark was set last
        self._secret = os.urandom(16)  # nobody can choose ids whose marks are set
        self._minute, self._left = 0, 0

    def judge(self, tenant_id: int, check: Check) -> Check:
        """The check; with `new_client` set where its client is to share a counter. A peek introduces nobody."""
        minute = KNOWN_MINUTES + int(self._clock() / 60)
        marks = self._marks_of(tenant_id, check.client_id)
        unknown = min(map(self._minutes.__getitem__, marks)) <= minute - KNOWN_MINUTES
        if unknown and not self._room(minute):
            return replace(check, new_client=True)
        if check.cost:
            self._left -= unknown
            for mark in marks:  # aligned stores without a lock: whoever is last writes nearly the same
                self._minutes[mark] = minute
        return check

    def _room(self, minute: int) -> bool:
        if minute != self._minute:
            self._minute, self._left = minute, self._per_minute
        return self._left > 0

    def _marks_of(self, tenant_id: int, client_id: str) -> list[int]:
        named = f"{tenant_id}:{client_id}".encode()
        return [number % SLOTS for number in _marks(blake2b(named, digest_size=16, key=self._secret).digest())]
