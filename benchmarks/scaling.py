"""Extrapolates from the cost of one check to a million per second: only arithmetic on saved results."""

from __future__ import annotations

import math
from typing import Any

GOAL = 1_000_000  # checks per second
BUSY = 0.6  # usable share of a processor; the rest is for bursts, failed neighbours and restarts
LEASE, GRANT = 100, 3  # permits; the most that a grant costs Redis, in checks (docs/leases.md)
# Variants of benchmarks.check, and what each represents.
KINDS = {
    "token_bucket": "one a request",
    "batch of 100": "100 a request",
    "in a cluster": "one a request, in a cluster",
    "batch of 100, in a cluster": "100 a request, in a cluster",
    "denied": "one a request, denied",
}
# Variants on a cluster, since GOAL needs more than one primary.
SHARDED = ("in a cluster", "batch of 100, in a cluster", "denied")
HEADERS = 66  # bytes of Ethernet, IP and TCP headers per packet
MAX_CONNECTIONS = 100  # PostgreSQL's default

Result = dict[str, Any]


def _us(check: Result, kind: str, of: str) -> float:
    """Return the microseconds of CPU per check."""
    return float(check["variants"][kind][f"{of}_us"]["median"])


def costs(check: Result, footprint: Result) -> list[str]:
    """Return the costs of a check by place."""
    sent = footprint["bytes_per_check"]
    caller, redis = sent["request"] + sent["answer"], sent["to_redis"] + sent["from_redis"]
    bytes_of = {"token_bucket": (f"{caller}", f"{redis}")}
    rows = [
        f"| {meant} | {_us(check, kind, 'worker'):.1f} | {_us(check, kind, 'redis'):.1f} | "
        + " | ".join(bytes_of.get(kind, ("not measured", "not measured")))
        + " |"
        for kind, meant in KINDS.items()
    ]
    idle, loaded = footprint["postgresql"]["without_checks"], footprint["postgresql"]["under_load"]
    return [
        "| checks | worker µs | Redis µs | bytes caller and worker | bytes worker and Redis |",
        "|---|---|---|---|---|",
        *rows,
        "",
        f"PostgreSQL, for each worker and second: {idle['transactions_per_worker_second']} transactions and "
        f"{idle['cpu_us_per_worker_second']} µs without a check, {loaded['transactions_per_worker_second']} and "
        f"{loaded['cpu_us_per_worker_second']} µs during {footprint['checks']:,} checks.",
    ]


def capacity(check: Result, footprint: Result) -> list[str]:
    """Return the processors and primaries for GOAL, each used to BUSY."""
    rows = [
        f"| {KINDS[kind]} | {_needed(check, kind, 'worker')} | {_needed(check, kind, 'redis')} |" for kind in SHARDED
    ]
    sent = footprint["bytes_per_check"]
    packets = {"callers": sent["request"] + sent["answer"], "Redis": sent["to_redis"] + sent["from_redis"]}
    network = [f"{name} {_gigabits(2 * HEADERS + size):.1f} Gbit/s" for name, size in packets.items()]
    return [
        f"| {GOAL:,} checks/s | processors for workers | Redis primaries |",
        "|---|---|---|",
        *rows,
        "",
        f"Network, one check a request, both directions, each in a packet of its own: {', '.join(network)}.",
    ]


def saturation(check: Result, footprint: Result) -> list[str]:
    """Return the capacity of one processor, primary or database, fully used."""
    worker, primary = _rate(check, "token_bucket", "worker"), _rate(check, "token_bucket", "redis")
    database = footprint["postgresql"]["under_load"]
    connections, cpu_us = database["connections_per_worker"], database["cpu_us_per_worker_second"]
    return [
        "| part | is full at | which is |",
        "|---|---|---|",
        f"| processor of a worker | {worker:,} checks/s | |",
        f"| Redis primary | {primary:,} checks/s | {primary / worker:.1f} processors of workers |",
        f"| PostgreSQL, {MAX_CONNECTIONS} connections | {MAX_CONNECTIONS / connections:.0f} workers "
        f"| {worker * MAX_CONNECTIONS / connections:,.0f} checks/s |",
        f"| PostgreSQL, one processor | {1e6 / cpu_us:,.0f} workers | {worker * 1e6 / cpu_us:,.0f} checks/s |",
    ]


def hot_keys(check: Result) -> list[str]:
    """Return the capacity of one key on one primary used to BUSY."""
    admitted, denied = (int(BUSY * _rate(check, kind, "redis")) for kind in ("token_bucket", "denied"))
    return [
        "| one client of one rule | checks/s | |",
        "|---|---|---|",
        f"| admitted one by one | {admitted:,} | measured cost |",
        f"| denied, again and again | {denied:,} | measured cost: workers remember a denial for up to a second |",
        f"| by leases of {LEASE} | {LEASE * admitted // GRANT:,} | calculated: a grant costs {GRANT} checks at most |",
    ]


def _rate(check: Result, kind: str, of: str) -> int:
    """Return the checks per second of one fully used processor."""
    return int(1e6 / _us(check, kind, of))


def _needed(check: Result, kind: str, of: str) -> int:
    return math.ceil(GOAL * _us(check, kind, of) / 1e6 / BUSY)


def _gigabits(size: int) -> float:
    return GOAL * size * 8 / 1e9
