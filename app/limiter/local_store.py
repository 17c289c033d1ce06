"""Decides checks in this worker's memory: what `fail_mode: local` falls back to while Redis cannot decide."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace

from app.limiter.algorithms import State, decide
from app.limiter.decision import Outcome
from app.limiter.plan import Charge
from app.rules.rule import Limit

MAX_COUNTERS = 50_000  # about 20 MB; beyond it the longest unused are forgotten


class LocalStore:
    """Enforces this worker's share of each limit: 1 / `holders`, where holders = nodes x workers, at least one unit."""

    def __init__(self, *, holders: int, max_counters: int = MAX_COUNTERS) -> None:
        self._holders = holders
        self._max_counters = max_counters
        self._counters: OrderedDict[tuple[bytes, bytes], State] = OrderedDict()

    def check(self, charge: Charge, now_us: int) -> Outcome:
        """Decide on states in memory what would have gone to Redis; `now_us` of this machine."""
        keys = [(charge.client, name) for name in charge.plan.names]
        limits = [self.share(limit) for limit in charge.plan.rule.limits]
        states, outcome = decide([self._counters.get(key) for key in keys], limits, charge.cost, now_us)
        for key, state in zip(keys, states or (), strict=False):
            if state is not None:
                self._counters[key] = state
                self._counters.move_to_end(key)
        while len(self._counters) > self._max_counters:
            self._counters.popitem(last=False)
        return outcome

    def share(self, limit: Limit) -> Limit:
        burst = None if limit.burst is None else max(1, limit.burst // self._holders)
        return replace(limit, rate=max(1, limit.rate // self._holders), burst=burst)
