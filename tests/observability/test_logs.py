"""Log lines: one form for all, the id of the request on each of its lines, no secrets, no forgeries."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator
from typing import NamedTuple
from uuid import uuid4

import pytest

from app.observability.logs import (
    MAX_LINES,
    PER_SECONDS,
    TEXT,
    TIME_FORMAT,
    Bound,
    JsonFormatter,
    TextFormatter,
    correlation_id,
)
from tests.api.raw_http import exchange
from tests.support.node import ADMIN_KEY, Node

LINE = re.compile(
    r"\[[\w.-]{1,64}\] \d{4}-\d\d-\d\d \d\d:\d\d:\d\d - [\w.]+ - (DEBUG|INFO|WARNING|ERROR|CRITICAL) - .+"
)
FORGED = "[-] 2026-01-01 00:00:00 - app - INFO - forged"
BREAKS = ("\n", "\r", "\r\n", "\x0b", "\x0c", "\x1b[2K", "\x85", "\u2028", "\u2029", "\x00")


class Logged(NamedTuple):
    node: Node
    redis_password: str


@pytest.fixture(scope="module", params=["text", "json"])
def logged(
    request: pytest.FixtureRequest,
    limiter_redis_url: str,
    database_url: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Logged]:
    with Node(
        redis_url=limiter_redis_url,
        database_url=database_url,
        data_dir=tmp_path_factory.mktemp("logged"),
        LOG_FORMAT=request.param,
        LOG_LEVEL="DEBUG",
        REDIS_TIMEOUT_MS=2000,
    ) as node:
        yield Logged(node, limiter_redis_url.partition("@")[0].rpartition(":")[2])


def lines(node: Node) -> list[str]:
    return node.log.read_text().splitlines()


def record(message: str, error: Exception | None = None) -> logging.LogRecord:
    information = (type(error), error, error.__traceback__) if error else None
    return logging.LogRecord("app", logging.ERROR, __file__, 1, "%s", (message,), information)


@pytest.mark.parametrize(
    "headers",
    [
        {},  # the fast lane
        {"TE": "trailers"},  # gunicorn's parser
        {"Content-Type": "application/json; version=1"},  # Flask
    ],
)
def test_the_lines_of_a_check_carry_its_id_at_every_door(logged: Logged, headers: dict[str, str]) -> None:
    mark = uuid4().hex
    headers = {"Content-Type": "application/json", "X-Correlation-ID": mark} | headers
    logged.node.request("POST", "/v1/check", key=None, data='{"client_id":"x"}', headers=headers)
    assert logged.node.eventually(lambda: any(mark in line and "check of rule" in line for line in lines(logged.node)))


def test_every_line_has_the_same_form_gunicorns_own_too(logged: Logged) -> None:
    exchange(logged.node.port, b"NONSENSE\r\n\r\n")
    logged.node.request("GET", "/livez%0a" + FORGED.replace(" ", "%20"))
    found = lines(logged.node)
    if found[0].startswith("{"):
        parsed = [json.loads(line) for line in found]
        assert {"gunicorn.error", "app"} <= {line["logger"] for line in parsed}
        assert all(
            {"time", "level", "logger", "message", "correlation_id", "process"} <= line.keys() for line in parsed
        )
    else:
        assert [line for line in found if not LINE.fullmatch(line) and not line.startswith("  | ")] == []
        assert any(" - gunicorn.error - " in line for line in found)


def test_the_settings_are_logged_once_and_no_secret_ever(logged: Logged) -> None:
    logged.node.request("GET", "/rules", key="a-wrong-key")
    text = logged.node.log.read_text()
    assert text.count("settings: ") == 1
    assert "'redis_timeout_ms': 2000" in text
    assert "ratelimiter:***@" in text
    assert logged.redis_password not in text
    assert ADMIN_KEY not in text
    assert "a-wrong-key" not in text


@pytest.mark.parametrize("line_break", BREAKS)
def test_no_line_can_be_forged(line_break: str) -> None:
    text = f"harmless{line_break}{FORGED}"
    try:
        raise ValueError(text)
    except ValueError as error:
        broken = record(text, error)
    formatted = TextFormatter(TEXT, TIME_FORMAT).format(broken)
    first, *rest = formatted.split("\n")
    assert LINE.fullmatch(first)
    assert rest
    assert all(line.startswith("  | ") for line in rest)
    assert formatted.replace("\n", "").isprintable()
    assert len(JsonFormatter().format(broken).splitlines()) == 1


def test_the_id_is_that_of_the_request() -> None:
    token = correlation_id.set("find-me")
    try:
        assert TextFormatter(TEXT, TIME_FORMAT).format(record("hello")).startswith("[find-me] ")
        assert json.loads(JsonFormatter().format(record("hello")))["correlation_id"] == "find-me"
    finally:
        correlation_id.reset(token)


def test_a_line_that_comes_again_and_again_is_counted_and_left_out() -> None:
    now = [1000.0]
    subject = Bound(lambda: now[0])

    def told(text: str, level: int = logging.WARNING, line: int = 1, **values: str) -> list[str]:
        made = logging.LogRecord("app", level, __file__, line, text, tuple(values.values()), None)
        return [made.getMessage()] if subject.filter(made) else []

    refusals = [told("refused %s", client=str(number)) for number in range(MAX_LINES + 5)]
    assert [line for told_now in refusals for line in told_now] == [f"refused {number}" for number in range(MAX_LINES)]
    assert told("lost %s", client="1") == ["lost 1"]
    assert [told("without values", line=2) for _ in range(MAX_LINES)] == [["without values"]] * MAX_LINES
    assert told("without values", line=2) == []
    assert [told("refused %s", logging.INFO, client="x") for _ in range(100)] == [["refused x"]] * 100
    now[0] += PER_SECONDS
    assert told("refused %s", client="later") == ["refused later (5 more of these were left out)"]
    assert told("refused %s", client="again") == ["refused again"]


def test_callers_cannot_fill_the_log(logged: Logged) -> None:
    """With what the server refuses, whose lines are gunicorn's."""
    workers = len(logged.node.workers) or 2
    for _ in range(3 * workers * MAX_LINES):
        exchange(logged.node.port, b"NONSENSE\r\n\r\n")
    refused = [line for line in lines(logged.node) if "refused a request" in line]
    assert MAX_LINES <= len(refused) <= workers * MAX_LINES
