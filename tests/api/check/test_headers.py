"""Headers of a decision: RateLimit in each dialect, Retry-After."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from devstack import Valkey
from tests.api.conftest import PutRules
from tests.support.node import Node

POLICY = re.compile(r'"([^"]+)";q=(\d+);w=(\d+)')
NOW = re.compile(r'"([^"]+)";r=(\d+);t=(\d+)')
HOUR = 3600


@pytest.fixture(scope="module")
def rules(node: Node, put_rules: PutRules) -> dict[str, Any]:
    """Rules of this file's clients, by name: their ids."""
    tight = {"rate": 3, "window": HOUR, "algorithm": "fixed_window"}
    wide = {"rate": 50, "window": 2 * HOUR, "algorithm": "gcra", "burst": 60}
    stored = put_rules(
        {"client_id": "headers_one*"} | tight,
        {"client_id": "headers_two*", "limits": [wide, tight]},
        {"client_id": "headers_allow", "action": "allow"},
        {"client_id": "headers_block", "action": "block"},
        {"client_id": "headers_fast*", "rate": 10, "window": 1},
    )
    return dict(zip(("one", "two", "allow", "block", "fast"), (str(rule["id"]) for rule in stored), strict=True))


@pytest.fixture(scope="module")
def legacy_node(valkey: Valkey, database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    with _node(valkey, database_url, tmp_path_factory, "legacy") as node:
        yield node


@pytest.fixture(scope="module")
def silent_node(valkey: Valkey, database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    with _node(valkey, database_url, tmp_path_factory, "off") as node:
        yield node


def _node(valkey: Valkey, database_url: str, directories: pytest.TempPathFactory, dialect: str) -> Node:
    return Node(
        redis_url=valkey.url,
        database_url=database_url,
        data_dir=directories.mktemp(dialect),
        REDIS_TIMEOUT_MS=2000,
        WEB_CONCURRENCY=1,
        RATELIMIT_HEADERS=dialect,
    )


def _answer(node: Node, client_id: str, cost: int = 1) -> requests.Response:
    answer = node.request("POST", "/v1/check", key=None, json={"client_id": client_id, "cost": cost})
    assert answer.status_code == 200, answer.text
    return answer


def _seconds(milliseconds: int) -> int:
    return -(-milliseconds // 1000)


def _limit_headers(answer: requests.Response) -> set[str]:
    return {name.lower() for name in answer.headers if "ratelimit" in name.lower()}


def test_the_default_dialect_is_draft_10(node: Node, client: str, rules: dict[str, Any]) -> None:
    answer = _answer(node, f"headers_one{client}")
    assert _limit_headers(answer) == {"ratelimit-policy", "ratelimit"}
    assert answer.headers["RateLimit-Policy"] == f'"{rules["one"]}";q=3;w={HOUR}'
    name, left, reset = NOW.fullmatch(answer.headers["RateLimit"]).groups()  # type: ignore[union-attr]
    assert (name, int(left)) == (rules["one"], 2)
    assert HOUR - 1 <= int(reset) <= HOUR


def test_every_limit_of_a_rule_is_a_policy_and_the_binding_one_has_the_numbers(
    node: Node, client: str, rules: dict[str, Any]
) -> None:
    answer = _answer(node, f"headers_two{client}")
    policies = POLICY.findall(answer.headers["RateLimit-Policy"])
    assert [(int(most), int(window)) for _, most, window in policies] == [(60, 2 * HOUR), (3, HOUR)]
    names = [name for name, _, _ in policies]
    assert len(set(names)) == 2
    assert all(name.startswith(rules["two"]) for name in names)
    assert NOW.fullmatch(answer.headers["RateLimit"]).groups()[:2] == (names[1], "2")  # type: ignore[union-attr]


def test_a_check_by_the_default_names_it(node: Node, client: str) -> None:
    answer = _answer(node, client)
    assert answer.headers["RateLimit-Policy"] == '"default";q=100;w=60'
    assert answer.headers["RateLimit"] == '"default";r=99;t=1'


def test_a_denial_says_when_to_come_back_in_whole_seconds_rounded_up(
    node: Node, client: str, rules: dict[str, Any]
) -> None:
    for client_id, all_of_it in ((f"headers_one{client}", 3), (f"headers_fast{client}", 10)):
        _answer(node, client_id, all_of_it)
        denial = _answer(node, client_id, all_of_it)
        wait = _seconds(denial.json()["retry_after_ms"])
        assert wait >= 1
        assert denial.headers["Retry-After"] == str(wait)
        assert NOW.fullmatch(denial.headers["RateLimit"]).group(3) == str(wait)  # type: ignore[union-attr]


def test_there_is_no_retry_after_without_a_denial_or_where_waiting_never_helps(
    node: Node, client: str, rules: dict[str, Any]
) -> None:
    answers = {
        "allowed": _answer(node, f"headers_one{client}"),
        "peek": _answer(node, f"headers_one{client}", 0),
        "never": _answer(node, f"headers_one{client}", 4),
        "allow": _answer(node, "headers_allow"),
        "block": _answer(node, "headers_block"),
    }
    assert [name for name, answer in answers.items() if "Retry-After" in answer.headers] == []
    assert [name for name, answer in answers.items() if len(_limit_headers(answer)) != 2] == []
    for name in ("allow", "block"):
        assert POLICY.fullmatch(answers[name].headers["RateLimit-Policy"])
        assert NOW.fullmatch(answers[name].headers["RateLimit"])


def test_the_legacy_dialect(legacy_node: Node, client: str, rules: dict[str, Any]) -> None:
    client_id = f"headers_one{client}"
    for answer in (_answer(legacy_node, client_id, 2), _answer(legacy_node, client_id, 2)):
        decision = answer.json()
        assert _limit_headers(answer) == {"x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset"}
        assert answer.headers["X-RateLimit-Limit"] == str(decision["limit"]) == "3"
        assert answer.headers["X-RateLimit-Remaining"] == str(decision["remaining"]) == "1"
        assert answer.headers["X-RateLimit-Reset"] == str(math.ceil(decision["reset_at"]))
    assert answer.headers["Retry-After"] == str(_seconds(decision["retry_after_ms"]))


def test_without_a_dialect_only_retry_after_is_left(silent_node: Node, client: str, rules: dict[str, Any]) -> None:
    client_id = f"headers_one{client}"
    for answer in (_answer(silent_node, client_id, 2), _answer(silent_node, client_id, 2)):
        assert _limit_headers(answer) == set()
        assert answer.headers["X-Correlation-ID"]
    assert answer.headers["Retry-After"] == str(_seconds(answer.json()["retry_after_ms"]))
