"""Cost of changed rules for a worker: `python -m benchmarks.refresh`.

Starts an embedded PostgreSQL with 10,000 rules, refreshes a reloader as a worker does, and writes
benchmarks/results/refresh.json. Beside it, a greenlet wants to run every millisecond. The most CPU time between two of
its runs is the wait of a check on an otherwise idle machine. Figures are medians of several refreshes; waits are the
worst.
"""

from __future__ import annotations

from gevent import monkey

monkey.patch_all()

import contextlib
import gc
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import gevent
import psycopg2
from sqlalchemy import create_engine

from app.rules.rule import default_rule
from app.rules.rule_book import RuleBook
from app.rules.sql.database.engine import ENGINE_OPTIONS, cooperate_with_gevent
from app.rules.sql.snapshot_source import SnapshotSource
from app.rules.sync.reloader import RuleReloader
from app.rules.sync.snapshot_file import SnapshotFile
from app.rules.sync.yielding import CooperativePace
from benchmarks.machine import described
from devstack import Postgres, runtime_directory
from tests.conftest import flask

RESULT = Path(__file__).parent / "results" / "refresh.json"
TIMES = 7
# Every tenth rule is a pattern.
FILL = (
    "INSERT INTO rules (tenant_id, client_id) SELECT 1, CASE WHEN n % 10 = 0 THEN 'group_' || n || '_*'"
    " ELSE 'client_' || n END FROM generate_series(1, 10000) n",
    "INSERT INTO rule_limits (rule_id, position, rate, window_seconds, counter) SELECT id, 0, 5, 60, 1 FROM rules",
)
CHANGES = {
    "no rule changed": "SELECT 1",
    "one rule changed": "UPDATE rule_limits SET rate = rate + 1 WHERE rule_id = 77",
    "one pattern changed": "UPDATE rules SET client_id = client_id || '*' WHERE id = 80",
    "all changed": "UPDATE rule_limits SET rate = rate + 1",
}


class Neighbour:
    """Another greenlet of the worker; records the most CPU time between two of its runs."""

    def __init__(self) -> None:
        self.longest = 0.0
        gevent.spawn(self._run)

    def _run(self) -> None:
        while True:
            began = time.process_time()
            gevent.sleep(0.001)
            self.longest = max(self.longest, time.process_time() - began)


def measured(work: Callable[[], None], neighbour: Neighbour) -> dict[str, float]:
    gevent.sleep(0.1)
    neighbour.longest = 0.0
    cpu, wall = time.process_time(), time.perf_counter()
    work()
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    gevent.sleep(0.01)
    return {"cpu_ms": cpu * 1e3, "wall_ms": wall * 1e3, "longest_wait_ms": neighbour.longest * 1e3}


def summary(runs: list[dict[str, float]]) -> dict[str, float]:
    return {
        name: round((max if name == "longest_wait_ms" else statistics.median)(run[name] for run in runs), 1)
        for name in runs[0]
    }


def main() -> None:
    cooperate_with_gevent()
    with (
        tempfile.TemporaryDirectory() as home,
        runtime_directory() as sockets,
        Postgres(data_dir=Path(home) / "postgres", socket_dir=sockets, durable=False) as postgres,
    ):
        flask("db", "upgrade", database_url=postgres.url)
        pace = CooperativePace(time.monotonic)
        saved = SnapshotFile(Path(home) / "rules.json", time.time, pace=pace)
        engine = create_engine(postgres.url, **ENGINE_OPTIONS)
        build = partial(RuleBook, default=default_rule(100, 60), algorithm="token_bucket", pace=pace)
        source = SnapshotSource(engine, pace)
        reloader = RuleReloader(source=source, saved=saved, build=build, clock=time.monotonic, pace=pace)
        reloader.start()
        gc.collect()
        gc.freeze()  # as workers do
        neighbour = Neighbour()
        by_hand(postgres.url, *FILL)

        def refresh() -> None:
            reloader.refresh()
            reloader.tidy()

        found = {"all new": summary([measured(refresh, neighbour)])}
        for name, statement in CHANGES.items():
            runs = []
            for _ in range(TIMES):
                by_hand(postgres.url, statement)
                runs.append(measured(refresh, neighbour))
            found[name] = summary(runs)
        save = partial(reloader.save, gevent.get_hub().threadpool.apply)
        found["save in a thread"] = summary([measured(save, neighbour)])
        engine.dispose()
    result = described("python -m benchmarks.refresh", "not used") | {"rules": 10_000, "refreshes": found}
    RESULT.write_text(json.dumps(result, indent=2) + "\n")
    sys.stdout.write(RESULT.read_text())


def by_hand(url: str, *statements: str) -> None:
    with contextlib.closing(psycopg2.connect(url)) as connection:
        connection.autocommit = True
        for statement in (*statements, "UPDATE rule_book SET version = version + 1"):
            connection.cursor().execute(statement)


if __name__ == "__main__":
    main()
