"""The applications of examples/, each as its readers start it, on the real service."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from ipaddress import IPv6Network
from pathlib import Path
from uuid import uuid4

import pytest
import requests

from tests.support.node import ROOT, START_SECONDS, Node, free_port

EXAMPLES = sorted(path.stem for path in (ROOT / "examples").glob("*.py"))
Start = Callable[[str], str]


@pytest.fixture
def start(node: Node, tmp_path: Path) -> Iterator[Start]:
    """Starts an example; its URL. A framework that is missing fails the test: requirements/dev.txt has them all."""
    with ExitStack() as started:

        def run(name: str) -> str:
            port = free_port()
            settings = {"RATELIMITER_URL": node.url, "PORT": str(port), "PYTHONPATH": str(ROOT / "sdk/src")}
            log = started.enter_context((tmp_path / f"{name}.log").open("w"))
            command = [sys.executable, f"examples/{name}.py"]
            process = subprocess.Popen(command, cwd=ROOT, env={**os.environ, **settings}, stdout=log, stderr=log)
            started.callback(process.wait, 10)
            started.callback(process.terminate)
            url = f"http://127.0.0.1:{port}"
            deadline = time.monotonic() + START_SECONDS
            while process.poll() is None and time.monotonic() < deadline:
                try:
                    requests.get(f"{url}/health", timeout=5)
                    return url
                except requests.ConnectionError:
                    time.sleep(0.05)
            raise AssertionError(Path(log.name).read_text())

        yield run


@pytest.fixture
def network() -> IPv6Network:
    """Nobody's but the test's: its rules are about `ip:` and this."""
    return IPv6Network((0xFD << 120 | (uuid4().int & (1 << 56) - 1) << 64, 64))


def test_there_is_one_of_each_kind() -> None:
    assert EXAMPLES == ["bottle_app", "django_app", "flask_app", "plain_wsgi", "pyramid_app"]


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_limit_holds_by_address_behind_the_proxy(name: str, start: Start, node: Node, network: IPv6Network) -> None:
    node.put_rule(client_id=f"ip:{network}", rate=3, window=3600, algorithm="fixed_window")
    url = start(name)
    seen = {"X-Forwarded-For": f"192.0.2.9, {network[1]}", "X-Correlation-ID": f"of-{name}"}
    answers = [requests.get(url, headers=seen, timeout=30) for _ in range(5)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429, 429]
    assert [answer.text for answer in answers[:3]] == ["hello\n"] * 3
    assert ["r=2" in answers[0].headers["RateLimit"], "r=0" in answers[4].headers["RateLimit"]] == [True, True]
    denied = answers[4]
    assert denied.headers["Content-Type"] == "application/problem+json"
    assert (denied.json()["status"], denied.json()["correlation_id"]) == (429, f"of-{name}")
    assert 3500 < int(denied.headers["Retry-After"]) <= 3600
    assert requests.get(f"{url}/health", headers=seen, timeout=30).status_code == 200


def test_a_view_of_flask_has_a_limit_of_its_own(start: Start, node: Node, network: IPv6Network) -> None:
    user = f"user-{uuid4().hex[:12]}"
    node.put_rule(client_id=user, endpoint="login", rate=2, window=3600, algorithm="fixed_window")
    url = start("flask_app")
    seen = {"X-Forwarded-For": str(network[1])}
    answers = [requests.post(f"{url}/login", data={"user": user}, headers=seen, timeout=30) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert "r=1" in answers[0].headers["RateLimit"]
    assert requests.get(url, headers=seen, timeout=30).status_code == 200
