"""`python -m devstack`, started for real: what it says, and the commands that find its servers by themselves."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from devstack.service import ROOT
from tests.support.node import free_port

WORDS = [sys.executable, "-m", "devstack"]
STOP_SECONDS = 60


class Run:
    """A start that answers by now. `said`: its lines up to then."""

    def __init__(self, data_dir: Path) -> None:
        self.environment = {"PATH": os.environ["PATH"], "DATA_DIR": str(data_dir)}
        self.url = f"http://127.0.0.1:{(port := free_port())}"
        own = {"PORT": str(port), "WEB_CONCURRENCY": "1", "DRAIN_SECONDS": "0"}
        self._process = subprocess.Popen(
            WORDS, cwd=ROOT, env=self.environment | own, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert self._process.stdout is not None
        self.said: list[str] = []
        for line in self._process.stdout:
            self.said.append(line.rstrip())
            if line.startswith("serving on "):
                return
        raise AssertionError(self.said)

    def stop(self) -> int:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
            self._process.communicate(timeout=STOP_SECONDS)
        return self._process.returncode

    def flask(self, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """A command in the same directory, told of no server."""
        words = [sys.executable, "-m", "flask", "--app", "wsgi", *command]
        own = self.environment | environment
        return subprocess.run(words, cwd=ROOT, env=own, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    started = Run(tmp_path_factory.mktemp("run") / "data")
    yield started
    started.stop()


def test_it_says_where_it_serves_and_where_that_is_described(run: Run) -> None:
    assert run.said[-2:] == [
        f"the interface, to read and try: {run.url}/docs",
        f"serving on {run.url} (Ctrl-C stops everything)",
    ]
    assert requests.get(f"{run.url}/docs", timeout=5).ok


def test_a_command_finds_the_servers_that_the_run_started(run: Run) -> None:
    listed = run.flask("rules", "list", "--json")
    assert listed.returncode == 0, listed.stderr
    assert [rule["client_id"] for rule in json.loads(listed.stdout)] == ["client_a"] * 3 + ["client_b"]
    check = {"client_id": "client_b", "cost": 50}
    assert requests.post(f"{run.url}/v1/check", json=check, timeout=5).json()["remaining"] == 0
    assert run.flask("counters", "reset", "client_b").returncode == 0
    assert requests.post(f"{run.url}/v1/check", json=check, timeout=5).json()["allowed"]


@pytest.mark.parametrize(
    ("environment", "told"),
    [
        ({"DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none"}, "Error: the database: "),
        ({"REDIS_URL": "redis://127.0.0.1:1/0"}, "Error: Redis: "),
    ],
    ids=["database", "redis"],
)
def test_what_a_variable_names_is_used_instead(run: Run, environment: dict[str, str], told: str) -> None:
    assert run.flask("counters", "show", "client_a", **environment).stderr.startswith(told)


def test_the_address_of_the_servers_is_for_their_owner_alone_and_goes_with_them(run: Run) -> None:
    note = Path(run.environment["DATA_DIR"]) / "run.lock"
    assert note.stat().st_mode & 0o777 == 0o600
    assert run.stop() == 0
    assert note.read_text() == ""
    assert run.flask("rules", "list").stderr.startswith("Error: DATABASE_URL is not set")
