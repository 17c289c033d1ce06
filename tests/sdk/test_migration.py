"""An application that came from flask-limiter: its own tests with the fake, and the same answers by the real service.

examples/migration/answers.jsonl is what flask-limiter answered to 200 requests. `make migration` asks it again, and
adds uWSGI to the servers. Both live in the environment of the benchmarks' peers.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import requests

from tests.support.node import ROOT, START_SECONDS, Node, free_port

SHOP = ROOT / "examples/migration"
PEERS = ROOT / ".venv-bench/bin"
ALL = os.environ.get("MIGRATION") == "all"
RECORDED = [tuple(json.loads(line)) for line in (SHOP / "answers.jsonl").read_text().splitlines()]
GUNICORN = [sys.executable, "-m", "gunicorn", "--no-control-socket", "--log-level", "warning"]
SERVERS = {
    "sync": [*GUNICORN, "--workers", "2"],
    "gthread": [*GUNICORN, "--workers", "2", "--worker-class", "gthread", "--threads", "4"],
    "gevent": [*GUNICORN, "--workers", "2", "--worker-class", "gevent"],
}
UWSGI = ["--master", "--processes", "2", "--enable-threads", "--threads", "2", "--die-on-term", "--module", "after:app"]
UWSGI += ["--virtualenv", str(PEERS.parent)]

Answers = list[tuple[Any, ...]]
Ask = Callable[..., Answers]


@pytest.fixture
def ask(tmp_path: Path) -> Iterator[Ask]:
    """Starts a server and asks it the 200 requests."""
    with ExitStack() as started:

        def run(command: list[str], port: int, **environment: str) -> Answers:
            log = started.enter_context((tmp_path / "server.log").open("w"))
            settings = {**os.environ, **environment}
            process = subprocess.Popen(command, cwd=SHOP, env=settings, stdout=log, stderr=log)
            started.callback(process.wait, 30)
            started.callback(process.terminate)
            url = f"http://127.0.0.1:{port}"
            deadline = time.monotonic() + START_SECONDS
            while not _answers(f"{url}/health"):
                alive = process.poll() is None and time.monotonic() < deadline
                assert alive, Path(log.name).read_text()
                time.sleep(0.05)
            asked = subprocess.run(
                [sys.executable, "script.py", url], cwd=SHOP, capture_output=True, text=True, check=True
            )
            return [tuple(json.loads(line)) for line in asked.stdout.splitlines()]

        yield run


@pytest.fixture
def shop(node: Node) -> dict[str, str]:
    """The shop's settings: a tenant of its own with the rules of rules.json, and nothing counted yet."""
    name = f"shop-{uuid4().hex[:8]}"
    assert node.request("POST", "/v1/admin/tenants", json={"name": name}).status_code == 201
    scopes = ["check", "rules:read", "rules:write"]
    made = node.request("POST", "/v1/admin/api-keys", json={"tenant": name, "name": "shop", "scopes": scopes})
    key = made.json()["key"]
    headers = {"Authorization": f"Bearer {key}"}
    node.await_rules()
    rules = json.loads((SHOP / "rules.json").read_text())
    imported = requests.post(f"{node.url}/v1/admin/import", json=rules, headers=headers, timeout=10)
    assert imported.status_code == 200, imported.text
    node.await_rules()
    return {
        "RATELIMITER_URL": node.url,
        "RATELIMITER_API_KEY": key,
        "RATELIMITER_TIMEOUT": "10",
        "PYTHONPATH": str(ROOT / "sdk/src"),
    }


def test_its_own_tests_pass_with_the_fake() -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "ratelimiter_client.pytest_plugin", "-c", "/dev/null"]
    run = [*command, "-p", "no:cacheprovider", "--rootdir", str(SHOP), str(SHOP / "test_shop.py")]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'sdk/src'}:{SHOP}"}
    done = subprocess.run(run, cwd=SHOP, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("server", SERVERS)
def test_it_answers_as_with_flask_limiter(server: str, ask: Ask, shop: dict[str, str]) -> None:
    port = free_port()
    assert_same(ask([*SERVERS[server], "--bind", f"127.0.0.1:{port}", "after:app"], port, **shop))


def test_it_answers_as_with_flask_limiter_under_uwsgi(ask: Ask, shop: dict[str, str]) -> None:
    needs_peers()
    port = free_port()
    assert_same(ask([str(PEERS / "uwsgi"), "--http-socket", f"127.0.0.1:{port}", *UWSGI], port, **shop))


def test_flask_limiter_answers_as_recorded(ask: Ask) -> None:
    needs_peers()
    port = free_port()
    command = [str(PEERS / "python"), *GUNICORN[1:], "--workers", "1", "--bind", f"127.0.0.1:{port}", "before:app"]
    assert ask(command, port) == RECORDED


def needs_peers() -> None:
    if not ALL:
        pytest.skip("flask-limiter and uWSGI are only in the environment of the benchmarks: make migration")


def assert_same(answers: Answers) -> None:
    """But for what is wanted: with flask-limiter an export of 13 months, which is denied, uses up all twelve."""
    different = [(theirs, ours) for theirs, ours in zip(RECORDED, answers, strict=True) if theirs != ours]
    wanted = (("GET", "/export?months=3", 429, "slow down"), ("GET", "/export?months=3", 200, "an export"))
    assert different == [wanted] * len(different)
    assert len(answers) == 200
    assert 0 < len(different) <= 12  # of three users, each with four exports of three months


def _answers(url: str) -> bool:
    try:
        return requests.get(url, timeout=5).ok
    except requests.ConnectionError:
        return False
