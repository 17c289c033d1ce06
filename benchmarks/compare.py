"""CPU per check of this code beside that of another commit, in turns: `python -m benchmarks.compare COMMIT`.

Each service runs twice, once per commit, in the same environment, whose packages must suit both. A round measures a
variant with both, directly after each other and in alternating order. The result is the ratio of the two, as the median
over the calmer half of the rounds. Saved in benchmarks/results/compare.json.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import redis

from benchmarks.calm import Calm
from benchmarks.check import measured_run, say
from benchmarks.load import RunError
from benchmarks.machine import described
from benchmarks.services import SERVICES, Service, Site, ours, program, site
from benchmarks.variants import VARIANTS
from tests.support.node import ROOT

RESULT = Path(__file__).parent / "results" / "compare.json"
FIGURES = ("worker_us", "redis_us")
HEAD = ["| variant | worker, ratio | least to most | Redis, ratio | worker us | before |", "|---|---|---|---|---|---|"]
OURS = [start for start in SERVICES.values() if start is ours or getattr(start, "func", None) is ours]
OWN = [name for name, variant in VARIANTS.items() if SERVICES[variant.service] in OURS]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compare")
    parser.add_argument("commit", help="whose code is the measure")
    parser.add_argument("--rounds", type=int, default=8, help="of each variant, after one that warms up (8)")
    parser.add_argument("--seconds", type=int, default=1, help="of load per run (1)")
    parser.add_argument("--only", nargs="+", choices=OWN, default=OWN, metavar="NAME")
    options = parser.parse_args()
    with checkout(options.commit) as (commit, before), site() as here:
        ratios = {}
        for name in options.only:
            ratios[name] = _compared(here, name, before, options)
            say(_row(name, ratios[name]))
        version = redis.Redis.from_url(here.valkey.url).info("server")["valkey_version"]
    command = f"python -m benchmarks.compare {commit} --rounds {options.rounds} --seconds {options.seconds}"
    result = described(command, version) | {"variants": ratios}
    if options.only == OWN:
        RESULT.write_text(json.dumps(result, indent=2) + "\n")
    say(*HEAD, *(_row(name, found) for name, found in ratios.items()))


@contextlib.contextmanager
def checkout(commit: str) -> Iterator[tuple[str, Path]]:
    """Yield the commit's short name, and a directory with its files."""
    name = _git("rev-parse", "--short", commit).strip()
    with tempfile.TemporaryDirectory() as home:
        _git("worktree", "add", "--detach", f"{home}/code", name)
        try:
            yield name, Path(home, "code")
        finally:
            _git("worktree", "remove", "--force", f"{home}/code")


def _git(*words: str) -> str:
    return subprocess.run([program("git"), *words], cwd=ROOT, capture_output=True, text=True, check=True).stdout


def _compared(here: Site, name: str, before: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Return the figures of both commits for one variant, and their ratio."""
    variant, calm = VARIANTS[name], Calm()
    start = SERVICES[variant.service]
    with contextlib.ExitStack() as stack:
        old = stack.enter_context(partial(start, root=before)(here))
        new = stack.enter_context(start(here))
        for service in (old, new):
            variant.prepare(service)
        rounds = []
        for number in range(options.rounds + 1):
            found: dict[str, dict[str, float]] = {}
            order: list[tuple[str, Service]] = [("old", old), ("new", new)]
            for which, service in order if number % 2 else reversed(order):
                with contextlib.suppress(RunError):
                    found[which] = measured_run(variant, service, calm, seconds=options.seconds, seed=number)
            if number and len(found) == 2:
                rounds.append(found)
    if len(rounds) < 2:
        sys.exit(f"{name}: not two rounds without a failed run")
    rounds.sort(key=lambda pair: max(pair["old"]["loop_us"], pair["new"]["loop_us"]))
    calmer = rounds[: max(2, len(rounds) // 2)]
    return {figure: _figures(figure, calmer) for figure in FIGURES}


def _figures(figure: str, rounds: list[dict[str, dict[str, float]]]) -> dict[str, float]:
    ratios = [pair["new"][figure] / pair["old"][figure] for pair in rounds]
    return {
        "ratio": round(statistics.median(ratios), 3),
        "least": round(min(ratios), 3),
        "most": round(max(ratios), 3),
        "now": statistics.median(pair["new"][figure] for pair in rounds),
        "before": statistics.median(pair["old"][figure] for pair in rounds),
    }


def _row(name: str, found: dict[str, dict[str, float]]) -> str:
    worker, server = found["worker_us"], found["redis_us"]
    return (
        f"| {name} | {worker['ratio']:.3f} | {worker['least']:.3f} to {worker['most']:.3f} | {server['ratio']:.3f} "
        f"| {worker['now']:.1f} | {worker['before']:.1f} |"
    )


if __name__ == "__main__":
    main()
