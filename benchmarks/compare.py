"""CPU per check of this code beside that of other commits, by turns: `python -m benchmarks.compare COMMIT…`.

Each service runs once by each code, with the packages that its requirements.txt names. A round measures a
variant with every code, one directly after the other and in changing order. Other work on the machine only adds to a
figure, so the result is the ratio of the lower quartiles of all rounds; the range is that of the rounds' own ratios.
Saved in benchmarks/results/compare.json.
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
from benchmarks.services import SERVICES, Site, ours, program, site
from benchmarks.variants import VARIANTS
from tests.support.node import ROOT
from tests.support.other_commits import install_packages

RESULT = Path(__file__).parent / "results" / "compare.json"
FIGURES = ("worker_us", "redis_us")
NOW = "now"
HEAD = ["| variant | worker, ratio | least to most | Redis, ratio | worker us | before |", "|---|---|---|---|---|---|"]
OURS = [start for start in SERVICES.values() if start is ours or getattr(start, "func", None) is ours]
OWN = [name for name, variant in VARIANTS.items() if SERVICES[variant.service] in OURS]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compare")
    parser.add_argument("commits", nargs="+", metavar="COMMIT", help="whose code is the measure")
    parser.add_argument("--rounds", type=int, default=8, help="of each variant, after one that warms up (8)")
    parser.add_argument("--seconds", type=int, default=1, help="of load per run (1)")
    parser.add_argument("--only", nargs="+", choices=OWN, default=OWN, metavar="NAME")
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        before = dict(stack.enter_context(checkout(commit)) for commit in options.commits)
        here = stack.enter_context(site())
        found: dict[str, dict[str, Any]] = {commit: {} for commit in before}
        for name in options.only:
            for commit, figures in _compared(here, name, before, options).items():
                found[commit][name] = figures
                say(f"{commit} {_row(name, figures)}")
        version = redis.Redis.from_url(here.valkey.url).info("server")["valkey_version"]
    command = f"python -m benchmarks.compare {' '.join(before)} --rounds {options.rounds} --seconds {options.seconds}"
    if options.only == OWN:
        RESULT.write_text(json.dumps(described(command, version) | {"beside": found}, indent=2) + "\n")
    for commit, variants in found.items():
        say(f"beside {commit}:", *HEAD, *(_row(name, figures) for name, figures in variants.items()))


@contextlib.contextmanager
def checkout(commit: str) -> Iterator[tuple[str, Path]]:
    """Yield the commit's short name, and a directory with its files."""
    name = _git("rev-parse", "--short", commit).strip()
    with tempfile.TemporaryDirectory() as home:
        _git("worktree", "add", "--detach", f"{home}/code", name)
        try:
            install_packages(Path(home, "code"))
            yield name, Path(home, "code")
        finally:
            _git("worktree", "remove", "--force", f"{home}/code")


def _git(*words: str) -> str:
    return subprocess.run([program("git"), *words], cwd=ROOT, capture_output=True, text=True, check=True).stdout


def _compared(
    here: Site, name: str, before: dict[str, Path], options: argparse.Namespace
) -> dict[str, dict[str, dict[str, float]]]:
    """By commit: the figures of this code and of the commit's, and their ratio, of one variant."""
    variant, calm = VARIANTS[name], Calm()
    start = SERVICES[variant.service]
    with contextlib.ExitStack() as stack:
        services = {commit: stack.enter_context(partial(start, root=root)(here)) for commit, root in before.items()}
        services[NOW] = stack.enter_context(start(here))
        for service in services.values():
            variant.prepare(service)
        rounds = []
        for number in range(options.rounds + 1):
            found: dict[str, dict[str, float]] = {}
            order = list(services.items())
            place = number % len(order)
            for which, service in order[place:] + order[:place]:
                with contextlib.suppress(RunError):
                    found[which] = measured_run(variant, service, calm, seconds=options.seconds, seed=number)
            if number and len(found) == len(services):
                rounds.append(found)
    if len(rounds) < 2:
        sys.exit(f"{name}: not two rounds without a failed run")
    return {commit: {figure: _figures(figure, commit, rounds) for figure in FIGURES} for commit in before}


def _figures(figure: str, commit: str, rounds: list[dict[str, dict[str, float]]]) -> dict[str, float]:
    ratios = [found[NOW][figure] / found[commit][figure] for found in rounds]
    now, before = (statistics.quantiles([found[which][figure] for found in rounds], n=4)[0] for which in (NOW, commit))
    return {
        "ratio": round(now / before, 3),
        "least": round(min(ratios), 3),
        "most": round(max(ratios), 3),
        "now": now,
        "before": before,
    }


def _row(name: str, found: dict[str, dict[str, float]]) -> str:
    worker, server = found["worker_us"], found["redis_us"]
    return (
        f"| {name} | {worker['ratio']:.3f} | {worker['least']:.3f} to {worker['most']:.3f} | {server['ratio']:.3f} "
        f"| {worker['now']:.1f} | {worker['before']:.1f} |"
    )


if __name__ == "__main__":
    main()
