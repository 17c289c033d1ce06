"""A budget of new clients: beyond it, clients that were not seen lately share one counter per rule.

A flood of invented client ids costs Redis at most the budget in keys, and known clients keep their own counters. A
Bloom filter (Bloom, 1970) remembers known clients. Its entries are minutes instead of bits, so it forgets by itself: a
client is known if all its entries are recent. With 100,000 known clients, 1 in 1,000 unknown ones counts as known.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from hashlib import blake2b
from struct import Struct

from msgspec.structs import replace

from app.limiter.decision import Check
from app.observability.shared_memory import shared_memory

ENTRIES = 1 << 21  # of four bytes: 8 MiB a node
KNOWN_MINUTES = 10
_marks = Struct("<4I").unpack


class NewClientBudget:
    """Made before the fork, so that all workers of a node know the same clients. `clock` is monotonic seconds.

    `per_minute` is the node's budget. Each of its `workers` has an equal part, at least one.
    """

    def __init__(self, *, per_minute: int, workers: int, clock: Callable[[], float]) -> None:
        self._per_minute = max(1, per_minute // workers)
        self._clock = clock
        self._minutes = shared_memory(ENTRIES * 4).cast("I")  # the minute in which each entry was last set
        self._secret = os.urandom(16)  # so that callers cannot choose ids whose entries are set
        self._minute, self._left = 0, 0

    def judge(self, tenant_id: int, check: Check) -> Check:
        """Return the check, with `new_client` set if its client is to share a counter. A peek makes no client known."""
        minute = KNOWN_MINUTES + int(self._clock() / 60)
        marks = self._marks_of(tenant_id, check.client_id)
        unknown = min(map(self._minutes.__getitem__, marks)) <= minute - KNOWN_MINUTES
        if unknown and not self._room(minute):
            return replace(check, new_client=True)
        if check.cost:
            self._left -= unknown
            for mark in marks:  # aligned stores without a lock: concurrent writers store nearly the same minute
                self._minutes[mark] = minute
        return check

    def _room(self, minute: int) -> bool:
        if minute != self._minute:
            self._minute, self._left = minute, self._per_minute
        return self._left > 0

    def _marks_of(self, tenant_id: int, client_id: str) -> list[int]:
        named = f"{tenant_id}:{client_id}".encode()
        return [number % ENTRIES for number in _marks(blake2b(named, digest_size=16, key=self._secret).digest())]
