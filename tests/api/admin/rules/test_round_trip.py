"""Read a rule, change a value, write it back: whatever was answered can be sent."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.raw_http import problem_of
from tests.support.node import Node

RULES, IMPORT, TEMPLATES = "/v1/admin/rules", "/v1/admin/import", "/v1/admin/templates"
OWN = ("id", "version", "created_at", "updated_at")
BUCKET = {"rate": 5, "window": 60, "algorithm": "gcra", "burst": 7}
TWO = [{"rate": 1, "window": 1}, {"rate": 9, "window": 60, "algorithm": "fixed_window"}]
SHAPES: dict[str, dict[str, Any]] = {
    "one limit": {"rate": 5, "window": 60},
    "a bucket": BUCKET,
    "two limits": {"limits": TWO},
    "allow": {"action": "allow"},
    "block, with a limit": {"action": "block", "rate": 5, "window": 60},
    "all else": BUCKET | {"endpoint": "login", "fail_mode": "closed", "shadow": True, "enabled": False},
}
WAYS = ("POST", "PUT", "PATCH")


def _created(node: Node, client: str, **fields: Any) -> dict[str, Any]:
    answer = node.request("POST", RULES, json={"client_id": client} | fields)
    assert answer.status_code == 201, answer.text
    read: dict[str, Any] = node.request("GET", answer.headers["Location"]).json()
    return read


def _write(node: Node, way: str, rule: dict[str, Any], body: dict[str, Any]) -> Any:
    return node.request(way, RULES if way == "POST" else f"{RULES}/{rule['id']}", json=body)


def _said(rule: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in rule.items() if name not in OWN}


def _limit(**fields: Any) -> dict[str, Any]:
    return {"rate": 5, "window": 60, "algorithm": None, "burst": None} | fields


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("shape", SHAPES)
def test_an_answer_sent_back_changes_nothing(node: Node, client: str, shape: str, way: str) -> None:
    rule = _created(node, client, **SHAPES[shape])
    answer = _write(node, way, rule, rule)
    assert answer.status_code == 200, answer.text
    assert _said(answer.json()) == _said(rule)
    assert (answer.json()["id"], answer.json()["version"]) == (rule["id"], 2)


def test_what_answers_add_counts_for_nothing(node: Node, client: str) -> None:
    invented = {"id": 0, "version": None, "created_at": "tomorrow", "updated_at": [1]}
    rule = _created(node, client, rate=5, window=60, **invented)
    patched = _write(node, "PATCH", rule, invented | {"rate": 6})
    assert (patched.json()["id"], patched.json()["version"], patched.json()["rate"]) == (rule["id"], 2, 6)
    assert patched.json()["created_at"] == rule["created_at"]


def test_the_list_of_rules_is_a_file_of_rules(node: Node, client: str) -> None:
    rules = [_created(node, f"{client}-{number}", **shape) for number, shape in enumerate(SHAPES.values())]
    merge = node.request("POST", IMPORT, json={"rules": rules}).json()
    assert [len(merge[name]) for name in ("created", "replaced", "unchanged")] == [0, 0, len(rules)]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("shape", ["one limit", "a bucket", "two limits", "allow"])
def test_limits_that_were_changed_count(node: Node, client: str, shape: str, way: str) -> None:
    rule = _created(node, client, **SHAPES[shape])
    wanted = [_limit(rate=8, algorithm="gcra", burst=9), _limit(window=3600)]
    answer = _write(node, way, rule, rule | {"action": "limit", "limits": wanted})
    assert answer.status_code == 200, answer.text
    assert answer.json()["limits"] == wanted


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    "change",
    [{"rate": 8}, {"window": 61}, {"rate": 9, "burst": None}, {"algorithm": None}, {"algorithm": "token_bucket"}],
    ids=str,
)
@pytest.mark.parametrize("kept", [True, False], ids=["limits kept", "limits removed"])
def test_fields_beside_a_single_limit_count_when_they_were_changed(
    node: Node, client: str, change: dict[str, Any], kept: bool, way: str
) -> None:
    rule = _created(node, client, **BUCKET)
    sent = {name: value for name, value in rule.items() if kept or name != "limits"}
    answer = _write(node, way, rule, sent | change)
    assert answer.status_code == 200, answer.text
    assert answer.json()["limits"] == [BUCKET | change]


@pytest.mark.parametrize("way", WAYS)
def test_a_rule_that_allowed_begins_to_limit(node: Node, client: str, way: str) -> None:
    rule = _created(node, client, action="allow")
    answer = _write(node, way, rule, rule | {"action": "limit", "rate": 5, "window": 60})
    assert answer.json()["limits"] == [_limit()]
    problem = problem_of(
        _write(node, way, rule, _created(node, f"{client}-2", action="allow") | {"action": "limit"}), 422
    )
    assert problem["errors"].keys() == {"limits"}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("shape", "change", "named"),
    [
        ("two limits", {"rate": 8}, {"limits", "rate"}),  # of the first one, or instead of both?
        ("a bucket", {"rate": 8, "window": 3, "limits": [_limit(rate=9, window=3)]}, {"limits", "rate"}),
        ("a bucket", {"rate": None}, {"limits", "rate"}),
        ("a bucket", {"algorithm": "fixed_window"}, {"burst"}),
        ("a bucket", {"rate": 1_000_000_000}, {"rate"}),
    ],
)
def test_what_cannot_be_meant_is_422_and_names_the_fields(
    node: Node, client: str, shape: str, change: dict[str, Any], named: set[str], way: str
) -> None:
    rule = _created(node, client, **SHAPES[shape])
    assert problem_of(_write(node, way, rule, rule | change), 422)["errors"].keys() >= named
    assert node.request("GET", f"{RULES}/{rule['id']}").json() == rule


def test_a_file_says_the_same_twice_or_is_refused(node: Node, client: str) -> None:
    rule = _created(node, client, **BUCKET)
    problem = problem_of(node.request("POST", IMPORT, json={"rules": [rule | {"rate": 8}]}), 422)
    assert problem["errors"]["rules"]["0"].keys() == {"limits", "rate"}


def test_a_template_can_be_sent_back_too(node: Node, client: str) -> None:
    created = node.request(
        "POST", TEMPLATES, json={"name": client, "rules": [BUCKET, SHAPES["two limits"] | {"endpoint": "a"}]}
    )
    again = node.request("POST", TEMPLATES, json=created.json())
    assert (created.status_code, again.status_code) == (201, 200)
    assert again.json() == created.json()
