"""Load by Locust, headless, on a service it starts itself or on another: `make load`.

It ends with 1 where a client was admitted more often than its limit allows, by the answers alone, or a request failed.
"""

from __future__ import annotations

import argparse
import contextlib
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from devstack import Postgres, Valkey, runtime_directory
from tests.conftest import flask
from tests.support.node import ROOT, Node

MARGIN_SECONDS = 60  # for Locust's start and end, before it counts as hung


def main() -> int:
    options = _options()
    if options.target:
        return _load(options, options.target)
    with service() as running:
        return _load(options, running.node.url)


def _load(options: argparse.Namespace, target: str) -> int:
    sys.stdout.write(f"load on {target} for {options.seconds} s\n")
    sys.stdout.flush()
    command = [sys.executable, "-m", "locust", *_locust(options), "--host", target]
    return subprocess.run(command, cwd=ROOT, timeout=options.seconds + MARGIN_SECONDS, check=False).returncode


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.traffic", description=__doc__)
    parser.add_argument("--target", help="URL of a service that runs; else one is started, with the example rules")
    parser.add_argument("--users", type=int, default=100, help="callers that wait for their answers (100)")
    parser.add_argument("--spawn-rate", type=float, default=10, help="of them that begin each second (10)")
    parser.add_argument("--seconds", type=int, default=30, help="of load (30)")
    parser.add_argument("--rate", type=float, help="instead of users: so many checks a second, answered or not")
    return parser.parse_args()


def _locust(options: argparse.Namespace) -> list[str]:
    kind = ["Arrivals", "--arrivals", str(options.rate)] if options.rate else ["Mixed", "--users", str(options.users)]
    file = str(Path(__file__).with_name("locustfile.py"))
    settings = ("--spawn-rate", str(options.spawn_rate), "--run-time", f"{options.seconds}s", "--stop-timeout", "1")
    return ["--locustfile", file, *kind, *settings, "--headless", "--only-summary", "--loglevel", "ERROR"]


class Running(NamedTuple):
    """A service and its servers."""

    node: Node
    valkey: Valkey
    postgres: Postgres


@contextlib.contextmanager
def service() -> Iterator[Running]:
    """Run a node of two workers with its own servers and the example rules."""
    with contextlib.ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        sockets = stack.enter_context(runtime_directory())
        valkey = stack.enter_context(Valkey(data_dir=home / "valkey", socket_dir=sockets, durable=False))
        postgres = stack.enter_context(Postgres(data_dir=home / "postgres", socket_dir=sockets, durable=False))
        flask("db", "upgrade", database_url=postgres.url)
        flask("rules", "load-examples", database_url=postgres.url)
        node = Node(redis_url=valkey.url, database_url=postgres.url, data_dir=home, REDIS_TIMEOUT_MS=2000)
        yield Running(stack.enter_context(node), valkey, postgres)


if __name__ == "__main__":
    sys.exit(main())
