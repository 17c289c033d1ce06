"""`python -m devstack` under checks, while its servers end by themselves."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.devstack.processes import ends, parent_of, runs
from tests.devstack.test_servers import EVERYSEC_SECONDS
from tests.support.node import Node
from tests.support.processes import children

VALKEY, POSTGRES = "valkey-server", "postgres"


class Run(Node):
    """With servers of its own where no URL is given."""

    command = ("devstack",)
    last_signal = signal.SIGINT

    def __init__(self, data_dir: Path, *, database_url: str = "") -> None:
        super().__init__(redis_url="", database_url=database_url, data_dir=data_dir, BREAKER_RESET_SECONDS=1)

    @property
    def programs(self) -> dict[str, int]:
        """What runs under its guards: the pids by the names that the system has for them."""
        pids = [pid for guard in children(self.pid) for pid in children(guard)]
        return {Path(f"/proc/{pid}/comm").read_text().strip(): pid for pid in pids}

    def exit_code(self) -> int:
        """Of a run that ends by itself."""
        assert self._process is not None
        return self._process.wait(30)

    def lines(self, word: str) -> list[str]:
        return [line for line in self.log.read_text().splitlines() if word in line]


@contextmanager
def without(run: Run, *names: str) -> Iterator[None]:
    """Kills these servers. In the block they are away: who would start them again is suspended."""
    killed = [run.programs[name] for name in names]
    os.kill(run.pid, signal.SIGSTOP)
    try:
        for pid in killed:
            os.kill(pid, signal.SIGKILL)
        assert all(map(ends, killed))
        yield
    finally:
        os.kill(run.pid, signal.SIGCONT)


def test_killed_servers_are_started_again_with_counters_and_rules(tmp_path: Path) -> None:
    with Run(tmp_path) as run:
        run.put_rule(client_id="kept", rate=5, window=3600, algorithm="fixed_window")
        assert run.check("kept", cost=3)["remaining"] == 2
        time.sleep(EVERYSEC_SECONDS)
        with without(run, VALKEY):
            decision = run.check("kept")
            assert (decision["allowed"], decision["degraded"]) == (True, True)
        assert run.eventually(lambda: not run.check("kept", cost=0)["degraded"])
        assert run.check("kept", cost=0)["remaining"] == 2
        assert run.eventually(lambda: run.request("GET", "/health").json()["status"] == "healthy")
        [line] = run.lines("ended by itself")
        assert line.startswith("Valkey ended by itself (exit 137) and is started again; last words: ")

        with without(run, POSTGRES):
            assert run.eventually(lambda: run.request("GET", "/v1/admin/rules").status_code == 503)
            decision = run.check("kept")
            assert (decision["limit"], decision["remaining"], decision["degraded"]) == (5, 1, False)
        assert run.eventually(lambda: run.request("GET", "/v1/admin/rules").status_code == 200)
        run.put_rule(client_id="kept", rate=6, window=3600)
        assert run.check("kept")["limit"] == 6
        assert len(run.lines("PostgreSQL ended by itself (exit 137)")) == 1
        programs = run.programs.values()
    assert not any(map(runs, programs))


def test_a_killed_run_leaves_nothing_of_servers_that_were_started_again_and_they_go_last(tmp_path: Path) -> None:
    with Run(tmp_path) as run:
        before = run.programs
        with without(run, VALKEY, POSTGRES):
            pass
        assert run.eventually(lambda: run.request("GET", "/v1/admin/rules").status_code == 200)
        assert run.eventually(lambda: not run.check("anyone")["degraded"])
        after = run.programs
        assert after.keys() == before.keys()
        assert {name for name, pid in after.items() if pid != before[name]} == {VALKEY, POSTGRES}
        [gunicorn] = set(after.values()) - {after[VALKEY], after[POSTGRES]}
        guard = parent_of(gunicorn)
        os.kill(guard, signal.SIGSTOP)
        try:
            os.kill(run.pid, signal.SIGKILL)
            time.sleep(0.3)
            assert runs(after[VALKEY])  # as long as gunicorn may need it
            assert runs(after[POSTGRES])
        finally:
            os.kill(guard, signal.SIGCONT)
        assert all(map(ends, after.values()))


def test_a_server_that_does_not_come_up_again_ends_the_run(tmp_path: Path, database_url: str) -> None:
    with Run(tmp_path, database_url=database_url) as run:
        programs = run.programs
        (tmp_path / "valkey/appendonlydir/appendonly.aof.manifest").write_text("nonsense\n")
        os.kill(programs[VALKEY], signal.SIGKILL)
        assert run.exit_code() == 1
        assert run.lines("Valkey")[-1].startswith("Valkey did not start: ")
        assert not any(map(runs, programs.values()))
