"""Decides checks in this worker's memory: the fallback of `fail_mode: local`."""

from __future__ import annotations

from collections import OrderedDict

from msgspec.structs import replace

from app.limiter.algorithms import State, decide
from app.limiter.compiled_rule import Charge, CompiledRule
from app.limiter.decision import Outcome
from app.limiter.joint.joint_rule import JointRule, joined, owned_parts
from app.rules.rule import Limit

MAX_COUNTERS = 50_000  # a few hundred bytes each; beyond it the least recently used are dropped
MAX_SHARES = 10_000  # rules, about a kilobyte each; beyond it the least recently used are made again
MAX_LOGGED = 1_000  # a larger share is counted, not logged, because every check rebuilds a Python log


class LocalStore:
    """Enforces this worker's share of each limit: 1 / `holders`, where holders = nodes x workers, at least one unit."""

    def __init__(self, *, holders: int, max_counters: int = MAX_COUNTERS) -> None:
        self._holders = holders
        self._max_counters = max_counters
        self._counters: OrderedDict[tuple[bytes, bytes], State] = OrderedDict()
        # Keys: numbers of compiled rules. Those of deleted rules stay for a while.
        self._shares: OrderedDict[int, CompiledRule] = OrderedDict()

    def check(self, charge: Charge, now_us: int) -> tuple[CompiledRule, Outcome]:
        """Decide on states in memory; `now_us` is this machine's time.

        Returns the compiled rule of the share that decided, to whose limits the outcome refers.
        """
        compiled = self._share(charge.compiled)
        owners = owned_parts(replace(charge, compiled=compiled))
        keys = [(owner, name) for part, owner in owners for name in part.counter_names]
        states, outcome = decide([self._counters.get(key) for key in keys], compiled.rule.limits, charge.cost, now_us)
        for key, state in zip(keys, states or (), strict=False):
            if state is not None:
                self._counters[key] = state
                self._counters.move_to_end(key)
        while len(self._counters) > self._max_counters:
            self._counters.popitem(last=False)
        return compiled, outcome

    def _share(self, compiled: CompiledRule) -> CompiledRule:
        share = self._shares.get(compiled.number)
        if share is None:
            share = self._shares[compiled.number] = self._made(compiled)
            if len(self._shares) > MAX_SHARES:
                self._shares.popitem(last=False)
        self._shares.move_to_end(compiled.number)
        return share

    def _made(self, compiled: CompiledRule) -> CompiledRule:
        if isinstance(compiled, JointRule):
            return joined([self._made(part) for part in compiled.parts], compiled.owned)
        limits = tuple(self._share_of(limit) for limit in compiled.rule.limits)
        return CompiledRule(replace(compiled.rule, limits=limits))

    def _share_of(self, limit: Limit) -> Limit:
        rate = max(1, limit.rate // self._holders)
        burst = None if limit.burst is None else max(1, limit.burst // self._holders)
        logged = limit.algorithm == "sliding_window" and rate <= MAX_LOGGED
        algorithm = limit.algorithm if logged or limit.algorithm != "sliding_window" else "sliding_window_counter"
        return replace(limit, rate=rate, burst=burst, algorithm=algorithm)
