"""Secrets stay where they are: neither the log nor an answer tells a key, a password or a token of an address."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.observability.collectors import Collector, collector
from tests.structure.test_layout import SOURCES
from tests.support.node import ROOT, Node

SECRET = "s3cret-that-nobody-may-read"
WRITERS = {"debug", "info", "warning", "error", "exception", "critical"}
REFUSALS = {"Problem", "Unauthorized", "Refused", "Conflict", "Forbidden", "NotFound", "Stale", "SettingsError"}
# What may hold a secret, or what a caller sent whole.
TELLING = re.compile(r"key|secret|password|credential|authorization|_url|\braw|body|request\.|environ", re.IGNORECASE)


def said(call: ast.Call) -> Iterator[str]:
    """What a call puts into its text: arguments of a log line, places in an f-string."""
    for argument in call.args:
        if isinstance(argument, ast.JoinedStr):
            yield from (ast.unparse(part.value) for part in argument.values if isinstance(part, ast.FormattedValue))
        elif not isinstance(argument, ast.Constant):
            yield ast.unparse(argument)


def tells(call: ast.Call) -> bool:
    """Constants in capitals are the program's own words."""
    return any(TELLING.search(value) for value in said(call) if not value.isupper())


def calls(path: Path) -> Iterator[tuple[str, ast.Call]]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def test_no_line_of_the_log_names_what_may_hold_a_secret() -> None:
    seen = 0
    for path in [*SOURCES, ROOT / "gunicorn.conf.py"]:
        for function, call in calls(path):
            owner, _, method = function.rpartition(".")
            if method in WRITERS and owner.endswith("log"):
                seen += 1
                assert not tells(call), f"{path}:{call.lineno}"
                assert not isinstance(call.args[0], ast.JoinedStr), f"{path}:{call.lineno}"
    assert seen > 25


def test_no_refusal_names_what_may_hold_a_secret() -> None:
    seen = 0
    for path in SOURCES:
        for function, call in calls(path):
            if function in REFUSALS:
                seen += 1
                assert not tells(call), f"{path}:{call.lineno}"
    assert seen > 40


@pytest.fixture(scope="module")
def collecting() -> Iterator[Collector]:
    with collector() as running:
        yield running


@pytest.fixture(scope="module")
def told(collecting: Collector, database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A node full of secrets that says all it can, and can reach neither Redis nor the database."""
    directory = tmp_path_factory.mktemp("told")
    with Node(
        redis_url=f"redis://ratelimiter:{SECRET}@127.0.0.1:1/0",
        database_url=f"postgresql://limiter:{SECRET}@127.0.0.1:1/none?sslpassword={SECRET}",
        data_dir=directory,
        ADMIN_API_KEY=SECRET,
        JAEGER_ENABLED="true",
        OTEL_TRACES_SAMPLER="always_on",
        OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=f"http://u:{SECRET}@127.0.0.1:{collecting.server_port}/{SECRET}?x={SECRET}",
        OTEL_EXPORTER_OTLP_HEADERS=f"x-api-key={SECRET}",
        LOG_LEVEL="DEBUG",
        WEB_CONCURRENCY=1,
    ) as node:
        yield node


WRONG = f"rl_abcdefgh_{SECRET}"
CHECK, YAML = {"client_id": "told"}, {"Content-Type": "application/yaml"}
KEYS, IMPORT = "/v1/admin/api-keys", "/v1/admin/import"
# Secrets wherever a caller may put one by mistake: method, path, key, and what else is sent.
SENT: list[tuple[str, str, str | None, dict[str, Any]]] = [
    ("POST", "/v1/check", SECRET, {"json": CHECK}),
    ("POST", "/v1/check", WRONG, {"json": CHECK}),
    ("POST", "/v1/check", None, {"json": CHECK, "headers": {"X-API-Key": f"{SECRET}\xff"}}),
    ("POST", "/v1/check", SECRET, {"json": CHECK, "headers": {"X-API-Key": WRONG}}),
    ("POST", "/v1/check", None, {"data": SECRET, "headers": {"Content-Type": "application/json"}}),
    ("POST", "/v1/check", None, {"json": CHECK | {"cost": SECRET}}),
    ("POST", "/v1/check/batch", None, {"json": {"checks": [SECRET]}}),
    ("POST", f"/v1/leases/{SECRET}/return", SECRET, {"json": {"unused": 1}}),
    ("GET", "/v1/authorize", None, {"params": {"limit_key": "x", "cost": SECRET}}),
    ("GET", "/v1/authorize", None, {"headers": {"X-Forwarded-For": SECRET}}),
    ("GET", "/rules", SECRET, {"params": {"api_key": SECRET}}),
    ("DELETE", f"{KEYS}/{SECRET}", SECRET, {}),
    ("POST", f"{KEYS}/{SECRET}/rotate", SECRET, {"json": {}}),
    ("POST", KEYS, SECRET, {"json": {"name": "x", "scopes": [SECRET]}}),
    ("POST", "/v1/admin/rules", SECRET, {"json": {"client_id": "a", "rate": SECRET, "algorithm": SECRET}}),
    ("POST", IMPORT, SECRET, {"data": f"rules: *{SECRET}", "headers": YAML}),
    ("POST", IMPORT, SECRET, {"data": f"'{SECRET}", "headers": YAML}),
    ("POST", IMPORT, SECRET, {"data": f"!{SECRET} 1", "headers": YAML}),
    ("POST", IMPORT, SECRET, {"data": SECRET, "headers": {"Content-Type": f"text/{SECRET}"}}),
    ("GET", "/v1/admin/audit", SECRET, {"params": {"since": SECRET}}),
    ("GET", "/v1/admin/limited", SECRET, {}),
    ("GET", f"/{SECRET}", SECRET, {}),
    *(("GET", path, SECRET, {}) for path in ("/health", "/metrics", "/openapi.json", "/docs")),
]


def test_a_node_that_says_all_it_can_tells_none_of_its_secrets(told: Node, collecting: Collector) -> None:
    for method, path, key, fields in SENT:
        answer = told.request(method, path, key=key, **fields)
        assert SECRET not in answer.text, (method, path)
        assert SECRET not in str(answer.headers), (method, path)
    assert told.eventually(lambda: bool(collecting.spans))
    assert told.eventually(lambda: "rules cannot be read" in told.log.read_text())
    log = told.log.read_text()
    assert " - DEBUG - " in log
    assert [line for line in log.splitlines() if SECRET in line] == []
    assert SECRET not in str(collecting.spans)
