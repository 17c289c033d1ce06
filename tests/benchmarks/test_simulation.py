"""The simulation behind docs/scaling.md stays within the bounds it states, and moves the way it must."""

from __future__ import annotations

import json

import pytest

from app.rules.rule import ALGORITHMS, Limit
from benchmarks.scaling import BUSY, capacity, hot_keys
from benchmarks.simulation import LAGS_MS, WINDOW, WORKERS, failovers, leases, outages, worst_failover, worst_leases
from benchmarks.tables import RESULTS


def test_a_failover_costs_at_most_what_the_replica_had_not_heard_of() -> None:
    for row in failovers():
        for over in row.over.values():
            assert 0 <= over <= row.bound, row


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_longer_lag_never_costs_less(algorithm: str) -> None:
    limit = Limit(50, WINDOW, algorithm)
    costs = [worst_failover(limit, 100, lag_ms * 1000) for lag_ms in LAGS_MS]
    assert costs == sorted(costs)
    assert 0 < costs[-1] <= 50


def test_without_redis_the_workers_together_admit_the_limit_or_one_each() -> None:
    for row in outages():
        assert 0 < row.admitted <= row.bound, row
        if row.nodes * WORKERS > row.limit:
            assert row.admitted == row.nodes * WORKERS


def test_leases_cost_what_is_out_when_the_window_ends() -> None:
    for row in leases():
        assert 0 < row.over <= row.bound, row
        assert row.over == min(10_000, row.holders * row.size) - min(row.holders, 10_000 // row.size)


def test_a_lease_of_one_is_a_check() -> None:
    assert worst_leases(100, 10, 1) == (10, 1, 0, 10, 0, 1000)


def test_what_idle_holders_keep_the_busy_one_cannot_have() -> None:
    starved = worst_leases(1_000, 11, 100)
    assert (starved.kept, starved.trips) == (10 * 99, None)


def test_the_capacity_is_the_measured_cost_times_the_goal() -> None:
    check, footprint = (json.loads((RESULTS / f"{name}.json").read_text()) for name in ("check", "footprint"))
    cost_us = check["variants"]["in a cluster"]["worker_us"]["median"]
    [row] = [line for line in capacity(check, footprint) if line.startswith("| one a request, in a cluster |")]
    workers = int(row.split("|")[2])
    assert (workers - 1) * BUSY * 1e6 < 1_000_000 * cost_us <= workers * BUSY * 1e6
    assert len({len(line.split("|")) for line in hot_keys(check)}) == 1  # every row has every column
