"""CPU of a check by the client library, beside that of other commits: `python -m benchmarks.sdk_compare COMMIT…`.

Each library has a process of its own, and one service answers all. A round measures each, in changing order. Other work
on the machine only adds to a figure, so the result is the ratio of the lower quartiles of all rounds. Saved in
benchmarks/results/sdk_compare.json.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import subprocess
import sys
from pathlib import Path

import redis

from benchmarks.compare import NOW, checkout
from benchmarks.load import RunError
from benchmarks.machine import described
from benchmarks.sdk import alone
from benchmarks.services import SERVICES, site
from tests.support.node import ROOT

RESULT = Path(__file__).parent / "results" / "sdk_compare.json"
CHECKS = 500  # per measurement
# Measures once for each line that it reads.
CALLER = """import asyncio, sys, time
source, way, url, checks = sys.argv[1:]
sys.path.insert(0, source)
import ratelimiter_client
ids = [f"user_{number}" for number in range(int(checks))]
kind = ratelimiter_client.AsyncRateLimiter if way == "asyncio" else ratelimiter_client.RateLimiter
client = kind(url, timeout=5, fail_mode="closed")
def ask():
    return sum([client.check(one, "login").allowed for one in ids])
async def ask_all():
    return sum([(await client.check(one, "login")).allowed for one in ids])
if way == "asyncio":
    loop = asyncio.new_event_loop()
    ask = lambda: loop.run_until_complete(ask_all())
for line in sys.stdin:
    before = time.process_time()
    admitted = ask()
    print((time.process_time() - before) / len(ids) * 1e6 if admitted == len(ids) else "", flush=True)
"""


class Caller:
    """A process that checks by the library in `source`."""

    def __init__(self, source: Path, way: str, url: str) -> None:
        command = [sys.executable, "-c", CALLER, str(source / "sdk/src"), way, url, str(CHECKS)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def check_us(self) -> float:
        """CPU per check in microseconds. Raises RunError where a check was not admitted."""
        asked, told = self._process.stdin, self._process.stdout
        assert asked is not None
        assert told is not None
        asked.write("\n")
        asked.flush()
        found = told.readline().strip()
        if not found:
            raise RunError("not every check was admitted")
        return float(found)

    def close(self) -> None:
        self._process.communicate()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sdk_compare")
    parser.add_argument("commits", nargs="+", metavar="COMMIT", help="whose library is the measure")
    parser.add_argument("--rounds", type=int, default=60, help="after one that warms up (60)")
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        before = dict(stack.enter_context(checkout(commit)) for commit in options.commits)
        here = stack.enter_context(site())
        service = stack.enter_context(SERVICES["no limit"](here))
        stack.enter_context(alone(here))
        url = f"http://127.0.0.1:{service.port}"
        sources = [(name, root, "threads") for name, root in before.items()]
        sources += [(NOW, ROOT, "threads"), (f"{NOW}, asyncio", ROOT, "asyncio")]
        callers = {name: Caller(root, way, url) for name, root, way in sources}
        for caller in callers.values():
            stack.callback(caller.close)
        figures = measured(callers, options.rounds)
        version = redis.Redis.from_url(here.valkey.url).info("server")["valkey_version"]
    command = f"python -m benchmarks.sdk_compare {' '.join(before)} --rounds {options.rounds}"
    found = {
        "check_us": {name: round(us, 1) for name, us in figures.items()},
        "ratio": {
            name: {commit: round(us / figures[commit], 3) for commit in before}
            for name, us in figures.items()
            if name not in before
        },
    }
    RESULT.write_text(json.dumps(described(command, version) | found, indent=2) + "\n")
    sys.stdout.write(json.dumps(found, indent=2) + "\n")


def measured(callers: dict[str, Caller], rounds: int) -> dict[str, float]:
    """The lower quartile of each caller's figures."""
    found: dict[str, list[float]] = {name: [] for name in callers}
    order = list(callers)
    for number in range(rounds + 1):
        place = number % len(order)
        for name in order[place:] + order[:place]:
            found[name].append(callers[name].check_us())
    return {name: statistics.quantiles(us[1:], n=4)[0] for name, us in found.items()}


if __name__ == "__main__":
    main()
