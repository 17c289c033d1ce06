"""Compares one run's figures with the targets: `python -m benchmarks.reach` reads benchmarks/results/check.json.

It also reads instructions.json, which shows whether a higher CPU time of Redis means more work.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

# Prefixes of the peers' variant names.
PEERS = ("seed's stack", "flask-limiter", "rate-limiter-flexible", "gunicorn", "nginx")
RESULTS = Path(__file__).parent / "results"
OURS, SEED, HELLO = "token_bucket", "seed's stack", "gunicorn hello"
FLEXIBLE = "rate-limiter-flexible"
BY_CLIENTS, BY_RULES = ("1,000 clients", OURS, "1,000,000 clients"), ("1 rule", "10,000 rules")
FLAT, FLAT_IN_INSTRUCTIONS = 1.25, 1.05

Of = Callable[[str, str], float]  # returns the median of a variant's figure
Measure = Callable[[Of], tuple[str, bool]]


def _at_least(least: float, ratio: Callable[[Of], float]) -> Measure:
    return lambda of: (f"{ratio(of):,.2f}", ratio(of) >= least)


def _at_most(most: float, ratio: Callable[[Of], float]) -> Measure:
    return lambda of: (f"{ratio(of):,.2f}", ratio(of) <= most)


def _flat(variants: tuple[str, ...]) -> Measure:
    """Compare the most expensive of the variants with the cheapest, for the worker and for Redis."""

    def measure(of: Of) -> tuple[str, bool]:
        spread = {figure: [of(name, figure) for name in variants] for figure in ("worker_us", "redis_us")}
        worker, server = (max(values) / min(values) for values in spread.values())
        return f"worker {worker:.2f}, Redis {server:.2f}", max(worker, server) <= FLAT

    return measure


def _flat_or_counted(variants: tuple[str, ...], counted: float) -> Measure:
    """Compare as `_flat`, but let Redis be slower if the instructions per check, maximum to minimum, hardly grow."""

    def measure(of: Of) -> tuple[str, bool]:
        times, flat = _flat(variants)(of)
        worker = [of(name, "worker_us") for name in variants]
        as_counted = counted <= FLAT_IN_INSTRUCTIONS and max(worker) / min(worker) <= FLAT
        return f"{times}, Redis's instructions {counted:.2f}", flat or as_counted

    return measure


def _per_core(of: Of) -> float:
    return 1e6 / of("batch of 100", "worker_us")


def _ratio(figure: str, above: str, below: str) -> Callable[[Of], float]:
    return lambda of: of(above, figure) / of(below, figure)


REACH: list[tuple[str, str, Measure]] = [
    ("worker CPU: seed's stack / ours", "≥ 10", _at_least(10, _ratio("worker_us", SEED, OURS))),
    ("worker CPU: rate-limiter-flexible / ours", "≥ 1.0", _at_least(1, _ratio("worker_us", FLEXIBLE, OURS))),
    ("Redis CPU: ours / rate-limiter-flexible", "≤ 0.5", _at_most(0.5, _ratio("redis_us", OURS, FLEXIBLE))),
    ("requests/s: ours / bare gunicorn gevent hello", "≥ 3", _at_least(3, _ratio("checks_per_second", OURS, HELLO))),
    (
        "batch of 100: checks/s per worker core",
        "≥ 150,000",
        lambda of: (f"{_per_core(of):,.0f}", _per_core(of) >= 150e3),
    ),
    ("worker CPU: denied / allowed", "≤ 0.7", _at_most(0.7, _ratio("worker_us", "denied", OURS))),
    ("p99, ms", "≤ 4", _at_most(4, lambda of: of(OURS, "p99_ms"))),
    ("p99: ours / seed's stack", "≤ 0.1", _at_most(0.1, _ratio("p99_ms", OURS, SEED))),
    ("CPU, 1 to 10,000 rules: most / least", "≤ 1.25", _flat(BY_RULES)),
    (
        "requests/s: fast lane off / hello",
        "≥ 0.6",
        _at_least(0.6, _ratio("checks_per_second", "fast lane off", HELLO)),
    ),
]


def reach(result: dict[str, Any], instructions: dict[str, Any]) -> list[str]:
    """Return a Markdown table, line by line. A row says so if a variant has no figures."""
    counts = [counted["together"] for counted in instructions["redis_instructions_per_check"].values()]
    by_clients = _flat_or_counted(BY_CLIENTS, max(counts) / min(counts))
    rows = [*REACH, ("CPU, 1,000 to 1,000,000 clients: most / least", "≤ 1.25, or ≤ 1.05 counted", by_clients)]

    def of(variant: str, figure: str) -> float:
        return result["variants"][variant][figure]["median"]

    lines = ["| figure | reach | measured | |", "|---|---|---|---|"]
    for figure, wanted, measure in rows:
        try:
            measured, reached = measure(of)
            lines.append(f"| {figure} | {wanted} | {measured} | {'reached' if reached else 'not reached'} |")
        except KeyError as missing:
            lines.append(f"| {figure} | {wanted} | | no figures of {missing.args[0]} |")
    return lines


if __name__ == "__main__":
    check, instructions = (json.loads((RESULTS / f"{name}.json").read_text()) for name in ("check", "instructions"))
    sys.stdout.write("\n".join(reach(check, instructions)) + "\n")
