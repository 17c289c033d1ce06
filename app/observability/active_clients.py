"""Estimates how many distinct clients were checked on this node in the last minute, in bounded shared memory.

Linear counting (Whang et al., 1990): a client marks one of SLOTS slots with the current second. The share of unmarked
slots gives the number of clients. The error is about 1 % up to 100,000 clients; the estimate saturates near 1.5
million.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

from app.observability.rule_counts import Pace
from app.observability.shared_memory import shared_memory

SLOTS = 1 << 17  # four bytes each: 512 KiB a node
PIECE = 1 << 13  # slots read in one go: a third of a millisecond
RECENT_SECONDS = 60


class ActiveClients:
    """Made before the fork, so that all workers mark the same slots. `clock` is monotonic seconds, the node's own."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._seconds = shared_memory(SLOTS * 4).cast("I")

    def add(self, clients: Iterable[bytes]) -> None:
        """Mark clients.

        All workers are forked from one process, so Python's hash of the same bytes is the same in all.
        """
        until, seconds = int(self._clock()) + RECENT_SECONDS, self._seconds
        for client in clients:
            # One aligned store without a lock: at worst a race loses one mark.
            seconds[hash(client) % SLOTS] = until

    def estimate(self, pace: Pace) -> int:
        """Return the number of distinct clients of the last minute.

        Takes some milliseconds, in pieces that `pace` spreads.
        """
        now, unmarked = int(self._clock()), 0
        for first in pace(range(0, SLOTS, PIECE)):
            piece = self._seconds[first : first + PIECE].tolist()
            unmarked += len([until for until in piece if until < now])  # takes half the time of a sum
        return round(-SLOTS * math.log(max(unmarked, 1) / SLOTS))
