"""Costs of the client library for its caller, in CPU of the caller's process: `python -m benchmarks.sdk`.

Measures checks over one kept connection, by a thread and by a task, beside the same by requests and by http.client; and
decisions by leases. The real service with its Redis runs on the other processor: the caller's waiting costs it nothing
and is not counted. All take turns. Medians over the rounds, with minimum and maximum, are saved in
benchmarks/results/sdk.json.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import http.client
import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import redis
import requests

from benchmarks.load import RunError
from benchmarks.machine import described
from benchmarks.processes import processors
from benchmarks.services import SERVICES, Service, Site, site

sys.path.insert(0, str(Path(__file__).parents[1] / "sdk" / "src"))

from ratelimiter_client import AsyncRateLimiter, LeasedLimiter, RateLimiter

RESULT = Path(__file__).parent / "results" / "sdk.json"
TIMEOUT_SECONDS = 2  # for all clients: a busy machine is not their fault
CLIENTS = 1_000
CHECKS = 1_000  # per measurement
LEASED = {1_000: 1_000_000, 100: 200_000}  # lease size -> decisions per measurement
THREADS = (1, 4)
TTL_SECONDS = 1.0
# Runs at the lowest priority, and ends with its parent.
SPIN = """import os
os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
while os.getppid() == {}: pass"""

Ask = Callable[[str], bool]
AskAll = Callable[[list[str]], int]  # asks one after another; returns the number admitted


def by_library(service: Service) -> AskAll:
    client = RateLimiter(_url(service), timeout=TIMEOUT_SECONDS, fail_mode="closed")
    return lambda ids: sum(client.check(client_id, "login").allowed for client_id in ids)


def by_asyncio(service: Service) -> AskAll:
    """Check in one task, so that each check waits for the one before, as in all variants."""
    client = AsyncRateLimiter(_url(service), timeout=TIMEOUT_SECONDS, fail_mode="closed")
    loop = asyncio.new_event_loop()

    async def ask(ids: list[str]) -> int:
        return sum([(await client.check(client_id, "login")).allowed for client_id in ids])

    return lambda ids: loop.run_until_complete(ask(ids))


def one_by_one(ask: Ask) -> AskAll:
    return lambda ids: sum(map(ask, ids))


def by_requests(service: Service) -> AskAll:
    session, url = requests.Session(), f"{_url(service)}/v1/check"

    def ask(client_id: str) -> bool:
        check = {"client_id": client_id, "limit_key": "login", "cost": 1}
        answer = session.post(url, json=check, timeout=TIMEOUT_SECONDS)
        answer.raise_for_status()
        return bool(answer.json()["allowed"])

    return one_by_one(ask)


def by_http_client(service: Service) -> AskAll:
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=TIMEOUT_SECONDS)

    def ask(client_id: str) -> bool:
        check = json.dumps({"client_id": client_id, "limit_key": "login", "cost": 1})
        connection.request("POST", "/v1/check", check, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        body = answer.read()
        if answer.status != http.HTTPStatus.OK:
            raise RunError(f"{answer.status} {body!r}")
        return bool(json.loads(body)["allowed"])

    return one_by_one(ask)


CALLERS = {
    "ratelimiter_client": by_library,
    "ratelimiter_client, asyncio": by_asyncio,
    "requests": by_requests,
    "http.client": by_http_client,
}


def _url(service: Service) -> str:
    return f"http://127.0.0.1:{service.port}"


def check_us(ask_all: AskAll) -> float:
    """Return the CPU time per check in microseconds, including the kernel."""
    ids = [f"user_{number % CLIENTS}" for number in range(CHECKS)]
    ask_all(ids[:1])  # connects
    before = time.process_time()
    admitted = ask_all(ids)
    spent = time.process_time() - before
    if admitted < CHECKS:
        raise RunError(f"{CHECKS - admitted} of {CHECKS} checks were not admitted")
    return spent / CHECKS * 1e6


def leased(limiter: LeasedLimiter, decisions: int, threads: int) -> dict[str, float]:
    """Decide as fast as possible in all threads, on one key. The CPU of the renewing thread is included."""
    failures: list[int] = []

    def run() -> None:
        check = limiter.check
        for _ in range(decisions // threads):
            decision = check("busy", "login")
            if not decision.allowed or decision.degraded:
                failures.append(1)

    workers = [threading.Thread(target=run) for _ in range(threads)]
    cpu, wall = time.process_time(), time.perf_counter()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    if failures:
        raise RunError(f"{len(failures)} of {decisions} decisions were not by the service")
    return {"per_cpu_second": decisions / cpu, "per_second": decisions / wall}


@contextlib.contextmanager
def alone(here: Site) -> Iterator[None]:
    """Keep the caller's processor free and awake: waking a processor is no cost of a library."""
    os.sched_setaffinity(here.valkey.pid, {processors()[0]})
    with subprocess.Popen([sys.executable, "-c", SPIN.format(os.getpid())]) as spinning:
        try:
            yield
        finally:
            spinning.kill()


def summary(values: list[float]) -> dict[str, float]:
    found = {"median": statistics.median(values), "min": min(values), "max": max(values)}
    return {name: round(value, 1) for name, value in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sdk")
    parser.add_argument("--rounds", type=int, default=7, help="measured rounds, after one that warms up (7)")
    rounds = parser.parse_args().rounds
    checks: dict[str, list[float]] = {name: [] for name in CALLERS}
    leases: dict[tuple[int, int], list[dict[str, float]]] = {(size, count): [] for size in LEASED for count in THREADS}
    with site() as here, SERVICES["no limit"](here) as service, alone(here):
        client = RateLimiter(_url(service), timeout=TIMEOUT_SECONDS, fail_mode="closed")
        for _ in range(rounds + 1):
            for name, caller in CALLERS.items():
                checks[name].append(check_us(caller(service)))
            for size, count in leases:
                with LeasedLimiter(client, size, TTL_SECONDS) as limiter:
                    leases[size, count].append(leased(limiter, LEASED[size], count))
        server = redis.Redis.from_url(here.valkey.url).info("server")["valkey_version"]
    result: dict[str, Any] = described(f"python -m benchmarks.sdk --rounds {rounds}", server)
    result["packages"]["requests"] = version("requests")
    result["check_us"] = {name: summary(runs[1:]) for name, runs in checks.items()}
    result["leased"] = [
        {"size": size, "threads": count}
        | {figure: summary([run[figure] for run in runs[1:]]) for figure in ("per_cpu_second", "per_second")}
        for (size, count), runs in leases.items()
    ]
    RESULT.write_text(json.dumps(result, indent=2) + "\n")
    sys.stdout.write(RESULT.read_text())


if __name__ == "__main__":
    main()
