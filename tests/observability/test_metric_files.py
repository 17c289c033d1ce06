"""However many callers and workers come and go, there are no more series and no more files."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest
import requests

from devstack import Valkey
from tests.conftest import flask
from tests.support.node import ROOT, Node

CHECKS, ROUNDS = 40, 4


def series(node: Node) -> set[str]:
    lines = node.request("GET", "/metrics", key=None).text.splitlines()
    return {line.rpartition(" ")[0] for line in lines if not line.startswith("#")}


def test_twenty_thousand_clients_make_no_series(node: Node) -> None:
    def check(*, clients: int) -> None:
        mark = uuid4().hex
        for first in range(0, clients, 1000):
            checks = [{"client_id": f"{mark}-{number}"} for number in range(first, min(first + 1000, clients))]
            answer = node.request("POST", "/v1/check/batch", key=None, json={"checks": checks})
            assert answer.status_code == 200

    for _ in range(8):  # each worker answers some
        check(clients=1)
    before = series(node)
    check(clients=20_000)
    assert series(node) == before
    assert node.metric("ratelimiter_active_clients") > 19_000


def test_invented_methods_make_no_series(node: Node) -> None:
    """The method is a label of the request metrics, and a caller may send any word as one."""

    def send(words: Iterable[str]) -> None:
        for word in words:
            assert node.request(word, "/health").status_code == node.request(word, "/nowhere").status_code + 1 == 405

    for _ in range(8):  # each worker answers some
        send(["PATCH"])
    before = series(node)
    send(f"BREW{number}" for number in range(20))
    assert series(node) == before


def test_workers_that_come_and_go_leave_counters_and_no_files(
    valkey: Valkey, database_url: str, tmp_path: Path
) -> None:
    files = tmp_path / "metrics"
    settings = {"REDIS_TIMEOUT_MS": 2000, "PROMETHEUS_MULTIPROC_DIR": files}
    with Node(redis_url=valkey.url, database_url=database_url, data_dir=tmp_path, **settings) as node:

        def workers() -> list[int]:
            return [int(pid) for pid in re.findall(r"Booting worker with pid: (\d+)", node.log.read_text())]

        def check() -> None:
            for number in range(CHECKS):  # each on a connection of its own, so that every worker gets some
                body = {"client_id": f"{uuid4().hex}-{number}"}
                assert requests.post(f"{node.url}/v1/check", json=body, timeout=10).status_code == 200

        check()
        names, metrics = set(files.rglob("*.db")), series(node)
        for _ in range(ROUNDS):
            known = len(workers())
            for pid in workers()[-2:]:
                os.kill(pid, signal.SIGKILL)
            assert node.eventually(lambda known=known: len(workers()) == known + 2)
            check()
        assert node.metric('ratelimiter_allowed_total{client_id="default",endpoint="*"}') == CHECKS * (ROUNDS + 1)
        assert set(files.rglob("*.db")) == names
        assert series(node) == metrics
    assert list(files.iterdir()) == []


def test_a_reload_keeps_the_counters(valkey: Valkey, database_url: str, tmp_path: Path) -> None:
    allowed = 'ratelimiter_allowed_total{client_id="default",endpoint="*"}'
    with Node(redis_url=valkey.url, database_url=database_url, data_dir=tmp_path, REDIS_TIMEOUT_MS=2000) as node:
        node.check(uuid4().hex)
        before = node.log.read_text().count("Booting worker")
        os.kill(node.pid, signal.SIGHUP)
        assert node.eventually(lambda: node.log.read_text().count("Booting worker") == 2 * before)
        assert node.eventually(lambda: len(node.workers) == before)
        node.check(uuid4().hex)
        assert node.metric(allowed) == 2
        assert node.metric("ratelimiter_rules_version") >= 1


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system with room for three files of metrics; a node has some fifteen."""
    path = tmp_path / "small"
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(path)]
    mounted = subprocess.run(mount, capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"no tmpfs can be mounted here: {mounted.stderr.strip()}")
    yield path
    subprocess.run(["umount", str(path)], check=True)


def test_a_full_disk_costs_metrics_and_no_check(
    valkey: Valkey, database_url: str, tmp_path: Path, small_disk: Path
) -> None:
    settings = {"REDIS_TIMEOUT_MS": 2000, "PROMETHEUS_MULTIPROC_DIR": small_disk}
    with Node(redis_url=valkey.url, database_url=database_url, data_dir=tmp_path, **settings) as node:
        for _ in range(20):  # each on a connection of its own, so that every worker gets some
            body = {"client_id": uuid4().hex}
            assert requests.post(f"{node.url}/v1/check", json=body, timeout=10).json()["allowed"]
        log = node.log.read_text()
        assert "the disk has no room for metrics (No space left on device)" in log
        assert "SIGBUS" not in log
        assert log.count("Booting worker") == 2
        assert node.metric('ratelimiter_allowed_total{client_id="default",endpoint="*"}') == 20


@pytest.mark.parametrize("variable", ["TMPDIR", "PROMETHEUS_MULTIPROC_DIR"])
def test_a_refused_start_leaves_a_directory_as_it_was(tmp_path: Path, variable: str) -> None:
    (tmp_path / "notes.txt").touch()
    assert "PORT=none: allowed is" in gunicorn(**{"PORT": "none", variable: str(tmp_path)}).stderr
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_directory_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    refused = gunicorn(PROMETHEUS_MULTIPROC_DIR=str(tmp_path / "file"))
    assert refused.stderr.startswith(
        f"PROMETHEUS_MULTIPROC_DIR={tmp_path / 'file'}: allowed is a directory to write to"
    )
    assert refused.stderr.count("\n") == 1


def test_commands_write_no_metrics(database_url: str, tmp_path: Path) -> None:
    flask("tenants", "list", database_url=database_url, PROMETHEUS_MULTIPROC_DIR=str(tmp_path))
    assert list(tmp_path.iterdir()) == []


def gunicorn(**settings: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "gunicorn", "wsgi:app"]
    environment = os.environ | settings
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=30, check=False)
