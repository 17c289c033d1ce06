"""A node of the service: the real gunicorn with its real configuration, on a free port of 127.0.0.1."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import requests

from tests.support.nursery import Child, Nursery
from tests.support.processes import children, runs

ROOT = Path(__file__).parents[2]
ADMIN_KEY = "test-admin-key-of-enough-characters"
START_SECONDS = 30


class Node:
    """Started on entry, stopped on exit. `settings` are environment variables of this node alone, `root`: its tree."""

    command = ("gunicorn", "wsgi:app")
    last_signal = signal.SIGQUIT  # at once, without waiting for connections; `stop` waits for them
    nursery: Nursery | None = None  # of the tests

    def __init__(
        self, *, redis_url: str, database_url: str, data_dir: Path, root: Path = ROOT, **settings: Any
    ) -> None:
        self._root = root
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = data_dir / "node.log"
        self._environment = {
            "PATH": os.environ["PATH"],
            "REDIS_URL": redis_url,
            "DATABASE_URL": database_url,
            "DATA_DIR": str(data_dir),
            "ADMIN_API_KEY": ADMIN_KEY,
            "PORT": str(self.port),
            "WEB_CONCURRENCY": "2",
            "DRAIN_SECONDS": "0",
        } | {name: str(value) for name, value in settings.items()}
        self._session = requests.Session()
        self._process: subprocess.Popen[bytes] | Child | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop(self.last_signal)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def workers(self) -> list[int]:
        """Their pids, where the system tells."""
        return children(self.pid)

    def start(self) -> None:
        ordinary = self._root == ROOT and self.command[0] == "gunicorn" and "PYTHONPATH" not in self._environment
        if self.nursery and ordinary:
            self._process = self.nursery.start(self.command, self._environment, self.log)
        else:
            self._process = self._popen()
        try:
            self._await_live(self._process)
        except BaseException:  # also where the suite is stopped just now
            self.stop()
            raise

    def _popen(self) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", *self.command], cwd=self._root, env=self._environment, stdout=log, stderr=log
            )

    def _await_live(self, process: subprocess.Popen[bytes] | Child) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and process.poll() is None:
            try:
                requests.get(f"{self.url}/livez", timeout=5)
                return
            except requests.ConnectionError:
                time.sleep(0.05)
        raise AssertionError(f"the node did not start:\n{self.log.read_text()}")

    def stop(self, number: int = signal.SIGINT) -> None:
        """Stop gently by default; by SIGKILL if that takes half a minute, and say so."""
        if self._process is None:
            return
        self._session.close()
        self._process.send_signal(number)
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            raise AssertionError(f"the node did not stop:\n{self.log.read_text()}") from None
        finally:
            self._process = None

    def kill(self) -> None:
        """Master and workers at once, as when a container dies. Returns when none is left."""
        workers = self.workers
        for number in (signal.SIGSTOP, signal.SIGKILL):  # stopped first, so that none answers while another is gone
            for pid in (self.pid, *workers):
                os.kill(pid, number)
        self.stop()
        assert self.eventually(lambda: not any(map(runs, workers)))

    def request(self, method: str, path: str, *, key: str | None = ADMIN_KEY, **kwargs: Any) -> requests.Response:
        """Any request; with the admin key unless `key` is None or another one."""
        headers = ({"Authorization": f"Bearer {key}"} if key else {}) | kwargs.pop("headers", {})
        return self._session.request(method, self.url + path, headers=headers, timeout=10, **kwargs)

    def check(self, client_id: str, limit_key: str | None = None, **fields: Any) -> dict[str, Any]:
        """The decision on one check, as a caller without a key gets it."""
        body = {"client_id": client_id} | ({"limit_key": limit_key} if limit_key else {}) | fields
        answer = self.request("POST", "/v1/check", key=None, json=body)
        assert answer.status_code == 200, answer.text
        decision: dict[str, Any] = answer.json()
        return decision

    def put_rule(self, *, key: str = ADMIN_KEY, **rule: Any) -> dict[str, Any]:
        """Create or replace a rule, and wait until every worker decides by it (one second, by contract)."""
        answer = self.request("POST", "/v1/admin/rules", key=key, json=rule)
        assert answer.status_code in (200, 201), answer.text
        self.await_rules()
        stored: dict[str, Any] = answer.json()
        return stored

    def await_rules(self, of: Node | None = None) -> None:
        """Until the slowest worker of this node decides by the current rules, or by those of the node that has them."""
        current = of._version() if of else 0
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            current = max(current, self._version())
            if self.metric("ratelimiter_rules_version") >= current:
                return
            time.sleep(0.02)
        raise AssertionError("the workers did not follow the change of rules")

    def metric(self, series: str) -> float:
        """The value of one series, labels as Prometheus prints them; 0 where there is none yet."""
        for line in self.request("GET", "/metrics", key=None).text.splitlines():
            if line.startswith((series + " ",)):
                return float(line.rpartition(" ")[2])
        return 0.0

    def eventually(self, holds: Callable[[], bool], seconds: float = 15) -> bool:
        """Whether the condition comes true within the bound; asked again and again."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if holds():
                return True
            time.sleep(0.05)
        return False

    def _version(self) -> int:
        """Of the rules by which the worker of this connection decides: what it changed itself, it knows at once."""
        return self.request("GET", "/health", key=None).json()["rules_version"] or 0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def behind_proxy(redis_url: str, database_url: str, data_dir: Path, **settings: Any) -> Node:
    """A node that takes this machine for its proxy. Checks need no key."""
    common = {"TRUSTED_PROXIES": "127.0.0.1", "CHECK_AUTH": "open", "REDIS_TIMEOUT_MS": 2000}
    return Node(redis_url=redis_url, database_url=database_url, data_dir=data_dir, **common | settings)
