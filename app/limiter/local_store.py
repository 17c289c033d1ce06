"""Decides checks in this worker's memory: what `fail_mode: local` falls back to while Redis cannot decide."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace

from app.limiter.algorithms import State, decide
from app.limiter.decision import Outcome
from app.rules.rule import Limit

MAX_COUNTERS = 50_000  # about 20 MB; beyond it the longest unused are forgotten


class LocalStore:
    """Enforces this worker's share of each limit: 1 / `holders`, where holders = nodes x workers, at least one unit."""

    def __init__(self, *, holders: int, max_counters: int = MAX_COUNTERS) -> None:
        self._holders = holders
        self._max_counters = max_counters
        self._counters: OrderedDict[str, State] = OrderedDict()

    def check(self, keys: tuple[str, ...], limits: tuple[Limit, ...], cost: int, now_us: int) -> Outcome:
        """Decide on states in memory; `keys` and `limits` as they would go to Redis, `now_us` of this machine."""
        states, outcome = decide(
            [self._counters.get(key) for key in keys], [self.share(limit) for limit in limits], cost, now_us
        )
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
