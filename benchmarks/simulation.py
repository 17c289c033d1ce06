"""Simulates admissions beyond a limit, and their causes: `python -m benchmarks.simulation` prints the tables.

All nodes together check one key at a steady pace, with the service's own algorithm steps. The simulation varies what a
single machine cannot show: a lagging replica that takes over, many nodes without Redis, and leases. A lease grants
permits ahead to a holder, which then decides locally. The simulation is deterministic.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

from app.limiter.algorithms import STEPS, State
from app.limiter.compiled_rule import Charge, CompiledRule
from app.limiter.fallback.local_store import LocalStore
from app.limiter.keys import Keyspace
from app.rules.rule import Limit, Rule

SECOND = 1_000_000  # microseconds, as all times here
START = 1_795_000_000 * SECOND
WINDOW = 10  # seconds
MOMENTS = 8  # moments of failure, spread over the admitted checks

RATES, LAGS_MS = (20, 100, 300), (1, 10, 100, 1_000)
NODES, WORKERS = (1, 3, 10, 30, 100), 8
LEASE_SIZES, HOLDERS = (10, 100, 1_000), (1, 10, 100)


class Failover(NamedTuple):
    """`over`: units admitted beyond those of a server that never fails, at the worst moment.

    `bound`: the most possible.
    """

    rate: int
    lag_ms: int
    over: dict[str, int]
    bound: int


class Outage(NamedTuple):
    """Units admitted in one window by all workers during an outage of Redis, with `fail_mode` local."""

    nodes: int
    limit: int
    admitted: int
    bound: int


class Leases(NamedTuple):
    """`over`: units beyond the limit in a window, at most `bound`. `kept`: units that idle holders hold back.

    `trips`: requests to the service per thousand decisions of the busy holder; None if nothing was left for it.
    """

    holders: int
    size: int
    over: int
    bound: int
    kept: int
    trips: float | None


@cache
def failovers(limit_rate: int = 100) -> list[Failover]:
    """Simulate a replica that is `lag_ms` behind and takes over at once, without refusals in between."""
    limits = [Limit(limit_rate, WINDOW, name) for name in ("token_bucket", "fixed_window")]
    return [
        Failover(
            rate,
            lag_ms,
            {str(limit.algorithm): worst_failover(limit, rate, lag_ms * 1000) for limit in limits},
            min(limit_rate, max(1, rate * lag_ms // 1000)),
        )
        for rate in RATES
        for lag_ms in LAGS_MS
    ]


def worst_failover(limit: Limit, rate: int, lag_us: int) -> int:
    """Simulate two windows of `rate` checks a second, with a failure right after an admitted check."""
    step, times = STEPS[limit.algorithm], range(START, START + 2 * limit.window_us, SECOND // rate)
    states, admitted = _undisturbed(limit, times)
    most = 0
    for place in admitted[:: max(1, len(admitted) // MOMENTS)]:
        # The replica has everything up to `lag_us` before the failure, which comes right after this check.
        known = max(0, place + 1 - max(1, lag_us * rate // SECOND))
        state, after = states[known], 0
        for at in times[place + 1 :]:
            state, view = step(state, limit, 1, at)
            after += view.wait_us == 0
        most = max(most, after - sum(later > place for later in admitted))
    return most


@cache
def _undisturbed(limit: Limit, times: range) -> tuple[list[State], list[int]]:
    """Return the state before each check and after the last, and the admitted checks."""
    states: list[State] = [None]
    admitted = []
    for place, at in enumerate(times):
        state, view = STEPS[limit.algorithm](states[-1], limit, 1, at)
        states.append(state)
        admitted += [place] if view.wait_us == 0 else []
    return states, admitted


@cache
def outages() -> list[Outage]:
    """Let every worker of every node decide by its share, with as many checks as it gets."""
    found = []
    for nodes in NODES:
        for rate in (100, 1_000):
            holders = nodes * WORKERS
            compiled = CompiledRule(Rule(id=1, client_id="*", limits=(Limit(rate, WINDOW, "fixed_window"),)))
            store = LocalStore(holders=holders)  # all workers are alike: one is simulated, and its result multiplied
            asked = Charge(compiled, Keyspace(b"simulation").client(1, "client"), 1)
            share = sum(store.check(asked, START + n)[1].allowed for n in range(rate + 1))
            found.append(Outage(nodes, rate, holders * share, max(rate, holders)))
    return found


@cache
def leases(limit_rate: int = 10_000) -> list[Leases]:
    return [worst_leases(limit_rate, holders, size) for size in LEASE_SIZES for holders in HOLDERS]


def worst_leases(limit_rate: int, holders: int, size: int) -> Leases:
    """Simulate a window in which every holder leases for one check at its end, and the next, with full demand.

    `kept` is counted in the second window: the first holder is busy, the others ask once and keep the rest of their
    lease.
    """
    service = _Service(Limit(limit_rate, WINDOW, "fixed_window"), size)
    left = [service.granted(START + n) for n in range(holders)]
    out = [max(0, permits - 1) for permits in left]
    later = START + WINDOW * SECOND + holders
    spent = sum(out) + sum(service.all_granted(later))
    others = _Service(service.limit, size)
    kept = sum(max(0, others.granted(START) - 1) for _ in range(holders - 1))
    busy = list(others.all_granted(START))
    trips = 1000 * len(busy) / sum(busy) if busy else None
    return Leases(holders, size, spent - limit_rate, min(limit_rate, holders * size), kept, trips)


class _Service:
    """Grants leases of one counter: charges the wanted units, or as many as are left."""

    def __init__(self, limit: Limit, size: int) -> None:
        self.limit = limit
        self._size = size
        self._state: State = None

    def granted(self, now_us: int) -> int:
        step = STEPS[self.limit.algorithm]
        _, view = step(self._state, self.limit, 0, now_us)
        permits = min(self._size, view.remaining)
        if permits:
            self._state, _ = step(self._state, self.limit, permits, now_us)
        return permits

    def all_granted(self, now_us: int) -> Iterator[int]:
        while permits := self.granted(now_us):
            yield permits


def failover_table() -> list[str]:
    head = "| checks/s on the key | replica behind, ms | over by, `token_bucket` | over by, `fixed_window` | bound |"
    rows = [
        f"| {row.rate} | {row.lag_ms:,} | {row.over['token_bucket']} | {row.over['fixed_window']} | {row.bound} |"
        for row in failovers()
    ]
    return [head, "|---|---|---|---|---|", *rows]


def outage_table() -> list[str]:
    head = f"| nodes of {WORKERS} workers | limit | admitted by all together | bound |"
    rows = [f"| {row.nodes} | {row.limit:,} | {row.admitted:,} | {row.bound:,} |" for row in outages()]
    return [head, "|---|---|---|---|", *rows]


def lease_table() -> list[str]:
    head = "| lease size | holders | over by, of 10,000 | bound | kept idle | trips per 1,000 decisions |"
    rows = [
        f"| {row.size:,} | {row.holders} | {row.over:,} | {row.bound:,} | {row.kept:,} | {_trips(row)} |"
        for row in leases()
    ]
    return [head, "|---|---|---|---|---|---|", *rows]


def _trips(row: Leases) -> str:
    return "nothing left" if row.trips is None else f"{row.trips:g}"


if __name__ == "__main__":
    sys.stdout.write("\n".join([*failover_table(), "", *outage_table(), "", *lease_table(), ""]))
