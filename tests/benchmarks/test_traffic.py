"""`make load` in small: on a service of its own, and on one that does not keep its limits."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.support.node import ROOT


class _Lenient(BaseHTTPRequestHandler):
    """Says of every check that it is the first."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.do_GET()

    def do_GET(self) -> None:
        decision = {"allowed": True, "degraded": False, "limit": 5, "window": 3600, "reset_at": 1.0, "rule_id": 7}
        body = json.dumps(decision | {"algorithm": "token_bucket"}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def lenient() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Lenient) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def load(*options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks.traffic", *options]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)


def test_it_starts_a_service_whose_limits_are_kept() -> None:
    done = load("--seconds", "1", "--users", "10", "--spawn-rate", "10")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "above their limit: 0" in done.stdout
    for figure in ("p95", "p99", "blocked"):
        assert figure in done.stdout


def test_limits_that_are_not_kept_are_named_and_fail_it(lenient: str) -> None:
    done = load("--seconds", "2", "--rate", "100", "--target", lenient)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "client_a by rule 7 (token_bucket, 5 per 3600 s)" in done.stdout


def test_a_service_that_is_not_there_fails_it() -> None:
    done = load("--seconds", "1", "--users", "1", "--target", "http://127.0.0.1:1")
    assert done.returncode == 1
    assert "no check was answered" in done.stdout
