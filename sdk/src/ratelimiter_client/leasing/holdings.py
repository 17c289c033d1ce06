"""The holdings of all keys of one process."""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from typing import Callable

from ratelimiter_client.leasing.demand import Demand
from ratelimiter_client.leasing.holding import Holding, Key, Permits

SECOND_CHANCES = 8  # keys in use that one eviction passes over, at most


class Holdings:
    """At most `most` holdings, the last used ones. A lock guards everything except lookups in `in_use`.

    `in_use`: for each key with leases, the one whose permits are being used. `unused`: leases to be returned.
    """

    def __init__(self, most: int, new_demand: Callable[[float], Demand]) -> None:
        self.in_use: dict[Key, Permits] = {}
        self.unused: deque[Permits] = deque()
        self.first_end: float = math.inf  # no lease in use ends earlier
        self._most = most
        self._new_demand = new_demand
        self._all: OrderedDict[Key, Holding] = OrderedDict()

    def of(self, key: Key, now: float) -> Holding:
        """The holding of this key, without leases that have ended or are used up."""
        holding = self._all.get(key)
        if holding is None:
            if len(self._all) >= self._most:
                self._evict(now)
            holding = self._all[key] = Holding(key, self._new_demand(now))
        self._all.move_to_end(key)
        if holding.leases and holding.leases[0].is_over(now):
            holding.count(now)
            self._keep(holding, [permits for permits in holding.leases if not permits.is_over(now)])
        return holding

    def _evict(self, now: float) -> None:
        """Using permits does not move a key to the end, so keys with used permits are passed over."""
        for _ in range(SECOND_CHANCES):
            oldest = next(iter(self._all.values()))
            if not oldest.count(now):
                break
            self._all.move_to_end(oldest.key)
        _, oldest = self._all.popitem(last=False)
        self.give_back(oldest, math.inf)

    def add(self, holding: Holding, permits: Permits) -> bool:
        """Add a lease. Returns whether it ends before all others. If the holding was evicted meanwhile, the lease is
        returned.
        """
        before = self.first_end
        if self._all.get(holding.key) is holding:
            self._all.move_to_end(holding.key)
            self._keep(holding, [*holding.leases, permits])
        else:
            self.unused.append(permits)
        return self.first_end < before

    def ending(self, by: float) -> list[Holding]:
        """The holdings with a lease that ends by then."""
        if by < self.first_end:
            return []
        ends = [(holding.leases[0].until, holding) for holding in self._all.values() if holding.leases]
        self.first_end = min((end for end, _ in ends if end > by), default=math.inf)
        return [holding for end, holding in ends if end <= by]

    def give_back(self, holding: Holding, by: float) -> None:
        """Return the holding's leases that end by then."""
        self.unused.extend(permits for permits in holding.leases if permits.until <= by)
        self._keep(holding, [permits for permits in holding.leases if permits.until > by])

    def clear(self) -> list[Holding]:
        """Return all leases and drop all keys. Returns the holdings that there were."""
        cleared = list(self._all.values())
        for holding in cleared:
            self.give_back(holding, math.inf)
        self._all.clear()
        return cleared

    def _keep(self, holding: Holding, leases: list[Permits]) -> None:
        holding.leases = leases
        if leases:
            self.in_use[holding.key] = leases[0]
            self.first_end = min(self.first_end, leases[0].until)
        else:
            self.in_use.pop(holding.key, None)
