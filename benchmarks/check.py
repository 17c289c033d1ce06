"""CPU per check and wall figures of the service and its peers, side by side: `python -m benchmarks.check`.

One worker runs alone on one processor; Redis and the load share another. CPU is the kernel's account of the processes,
which a busy machine disturbs far less than requests per second. The variants take turns. Medians over the calmest
quarter of the rounds, with minimum and maximum, are saved in benchmarks/results/check.json.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import statistics
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import redis

from benchmarks.calm import Calm, calmest
from benchmarks.load import RunError
from benchmarks.machine import described, peers
from benchmarks.processes import cpu_ns, workers
from benchmarks.reach import reach
from benchmarks.services import BENCH_BIN, SERVICES, Service, Site, UnavailableError, site
from benchmarks.tables import by_variant
from benchmarks.variants import VARIANTS, Variant

RESULT = Path(__file__).parent / "results" / "check.json"


def main() -> None:
    options = _options()
    if missing := _missing():
        sys.exit(missing)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    names = options.only or list(VARIANTS)
    with contextlib.ExitStack() as stack:
        here = stack.enter_context(site())
        services, left_out = _start(stack, here, {VARIANTS[name].service for name in names})
        names = [name for name in names if VARIANTS[name].service in services]
        runs, failures = _measure({name: services[VARIANTS[name].service] for name in names}, options)
        server = redis.Redis.from_url(here.valkey.url).info("server")["valkey_version"]
    result = {
        **described(f"python -m benchmarks.check --rounds {options.rounds} --seconds {options.seconds}", server),
        **peers(),
        "left_out": left_out,
        "failures": failures,
        "variants": {name: _summary(found) for name, found in runs.items() if found},
    }
    if options.only:
        say(*by_variant(result["variants"]))
    else:
        RESULT.write_text(json.dumps(result, indent=2) + "\n")
        say(*reach(result, json.loads((RESULT.parent / "instructions.json").read_text())))
    if failures:
        sys.exit("failed runs, in no figure:\n" + "\n".join(failures))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.check")
    parser.add_argument("--rounds", type=int, default=16, help="measured rounds, after one that warms up (16)")
    parser.add_argument("--seconds", type=int, default=1, help="of load per run (1)")
    parser.add_argument("--only", nargs="+", choices=VARIANTS, metavar="NAME", help="print these and save nothing")
    return parser.parse_args()


def _missing() -> str | None:
    """Return what this machine lacks, in one line; None if nothing."""
    if sys.platform != "linux" or len(os.sched_getaffinity(0)) < 2:
        return "the benchmarks need Linux and two processors"
    if shutil.which("wrk") is None:
        return "wrk is missing: install the package wrk (Debian and Ubuntu: apt-get install wrk)"
    return None if BENCH_BIN.exists() else "the peers are missing: `make bench` installs them"


def _start(stack: contextlib.ExitStack, here: Site, wanted: Iterable[str]) -> tuple[dict[str, Service], dict[str, str]]:
    """Return the services that could be started, and why others could not."""
    services, left_out = {}, {}
    for name in (name for name in SERVICES if name in wanted):
        started = time.monotonic()
        try:
            services[name] = stack.enter_context(SERVICES[name](here))
            say(f"started {name} in {time.monotonic() - started:.1f} s")
        except UnavailableError as reason:
            left_out[name] = str(reason)
            say(f"left out: {name}: {reason}")
    return services, left_out


def _measure(
    services: dict[str, Service], options: argparse.Namespace
) -> tuple[dict[str, list[dict[str, float]]], list[str]]:
    """Return the figures of each variant's valid runs in turn, and the errors of the others."""
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in services}
    failures, calm = [], Calm()
    for name, service in services.items():
        VARIANTS[name].prepare(service)
    for number in range(options.rounds + 1):
        for name, service in services.items():
            try:
                figures = measured_run(VARIANTS[name], service, calm, seconds=options.seconds, seed=number)
            except RunError as error:
                failures.append(f"{name}, round {number}: {error}")
                say(f"FAILED {failures[-1]}")
                continue
            runs[name] += [figures] if number else []
            say(f"round {number} {name:38}" + "".join(f" {figure} {value:<8g}" for figure, value in figures.items()))
    return runs, failures


def measured_run(variant: Variant, service: Service, calm: Calm, *, seconds: int, seed: int) -> dict[str, float]:
    """Make one run; return the worker's and Redis's CPU per check (us), the wall figures, and the disturbance.

    `worker_waited_percent`: share of the time in which the worker wanted its processor and another process had it.
    `loop_us`: the slower loop of benchmarks/calm.py before and after the run.
    """
    loop_us = calm.awaited()
    load, pids = variant.load, workers(service.pid)
    worker, server = cpu_ns(pids), cpu_ns([service.redis_pid])
    seen = load.run(service.port, seconds=seconds, seed=seed)
    if workers(service.pid) != pids:
        raise RunError("a worker was replaced")
    used, waited = (now - then for now, then in zip(cpu_ns(pids), worker, strict=True))
    checks = seen.requests * load.checks_per_request
    return {
        "worker_us": round(used / checks / 1000, 2),
        "redis_us": round((cpu_ns([service.redis_pid])[0] - server[0]) / checks / 1000, 2),
        "checks_per_second": round(checks / seen.seconds),
        "p50_ms": round(seen.p50_us / 1000, 2),
        "p99_ms": round(seen.p99_us / 1000, 2),
        "worker_waited_percent": round(100 * waited / (used + waited), 1),
        "loop_us": round(max(loop_us, calm.loop_us())),
    }


def _summary(runs: list[dict[str, float]]) -> dict[str, dict[str, float]]:
    counted = calmest(runs, lambda run: run["loop_us"])
    figures = {figure: [run[figure] for run in counted] for figure in counted[0]}
    return {
        figure: {"median": statistics.median(values), "min": min(values), "max": max(values)}
        for figure, values in figures.items()
    }


def say(*lines: str) -> None:
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
