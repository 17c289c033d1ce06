"""Every snippet of the client library's README runs as it is printed, on the real service."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from ratelimiter_client import RateLimiter

from tests.support.node import ROOT, Node

README = (ROOT / "sdk/README.md").read_text()
URL = "http://127.0.0.1:8000"
SNIPPETS = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def hello(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    start_response("200 OK", [])
    return [b"hello"]


async def hello_asgi(scope: Any, receive: Any, send: Any) -> None: ...


@pytest.mark.parametrize("snippet", SNIPPETS, ids=lambda text: text.strip().splitlines()[-1][:40])
def test_it_runs(snippet: str, node: Node, tmp_path: Path) -> None:
    """Alone, but for the applications it wraps and `client`. Tests in it are run by pytest, with the fixtures."""
    assert "http" not in snippet.replace(URL, "").replace("https://shop.example", "")
    code = snippet.replace(URL, node.url)
    if re.search(r"^def test_", snippet, re.MULTILINE):
        (tmp_path / "test_snippet.py").write_text(code)
        run = [sys.executable, "-m", "pytest", "-q", "-p", "ratelimiter_client.pytest_plugin", "-c", "/dev/null", "."]
        environment = {"PYTHONPATH": str(ROOT / "sdk/src"), "PATH": ""}
        done = subprocess.run(run, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return
    with RateLimiter(node.url) as client:
        names: dict[str, Any] = {"app": hello, "asgi_app": hello_asgi, "client": client, "__name__": "snippet"}
        exec(compile(code, "a snippet", "exec"), names)
        for made in names.values():
            if isinstance(made, RateLimiter):
                made.close()


def test_the_service_takes_its_rules(node: Node) -> None:
    rules = [json.loads(text) for text in re.findall(r'\{"client_id"[^}]*\}', README)]
    answer = node.request(
        "POST",
        "/v1/admin/import?dry_run=true",
        json={"rules": [{**rule, "endpoint": f"readme-{number}"} for number, rule in enumerate(rules)]},
    )
    assert answer.status_code == 200, answer.text
    assert len(rules) >= 3
    assert all(rule["algorithm"] == "fixed_window" for rule in rules if rule.get("window"))


def test_there_are_some() -> None:
    assert len(SNIPPETS) >= 10
