"""Rules over HTTP: create, replace, list, get, delete, and the short form at /rules."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.api.raw_http import problem_of
from tests.support.node import Node

RULES = "/v1/admin/rules"
SETTINGS = {"DEFAULT_RATE": 7, "DEFAULT_WINDOW": 70}  # of its own node
STORED = {
    "id",
    "version",
    "client_id",
    "group",
    "layer",
    "shared",
    "endpoint",
    "rate",
    "window",
    "algorithm",
    "burst",
    "limits",
    "action",
    "fail_mode",
    "shadow",
    "enabled",
    "description",
    "created_at",
    "updated_at",
}


def _create(node: Node, **rule: Any) -> dict[str, Any]:
    answer = node.request("POST", RULES, json=rule)
    assert answer.status_code == 201, answer.text
    stored: dict[str, Any] = answer.json()
    return stored


def test_a_new_rule_is_201_and_answers_all_of_its_fields(node: Node, client: str) -> None:
    before = datetime.now(UTC)
    stored = _create(node, client_id=client, rate=5, window=60)
    assert set(stored) >= STORED
    assert type(stored["id"]) is int
    assert stored["version"] == 1
    given = {name: stored[name] for name in STORED - {"id", "version", "limits", "created_at", "updated_at"}}
    assert given == {
        "client_id": client,
        "group": None,
        "layer": "default",
        "shared": False,
        "endpoint": None,
        "rate": 5,
        "window": 60,
        "algorithm": None,
        "burst": None,
        "action": "limit",
        "fail_mode": None,
        "shadow": False,
        "enabled": True,
        "description": "",
    }
    assert [(limit["rate"], limit["window"]) for limit in stored["limits"]] == [(5, 60)]
    created = datetime.fromisoformat(stored["created_at"])
    assert abs((created - before).total_seconds()) < 60
    assert stored["updated_at"] == stored["created_at"]


def test_the_same_client_and_endpoint_is_a_replacement(node: Node, client: str) -> None:
    first = _create(node, client_id=client, endpoint="login", rate=5, window=60, description="old", fail_mode="closed")
    answer = node.request("POST", RULES, json={"client_id": client, "endpoint": "login", "rate": 6, "window": 60})
    second = answer.json()
    assert answer.status_code == 200
    assert (second["id"], second["version"], second["rate"]) == (first["id"], 2, 6)
    assert (second["description"], second["fail_mode"]) == ("", None)  # what is not sent is the default, not the old
    assert second["created_at"] == first["created_at"]
    assert datetime.fromisoformat(second["updated_at"]) > datetime.fromisoformat(first["updated_at"])


def test_the_answer_to_a_creation_says_where_the_rule_is(node: Node, client: str) -> None:
    body = {"client_id": client, "rate": 5, "window": 60}
    created, replaced = (node.request("POST", RULES, json=body) for _ in range(2))
    assert (created.status_code, replaced.status_code) == (201, 200)
    assert created.headers["Location"] == f"{RULES}/{created.json()['id']}"
    assert "Location" not in replaced.headers


def test_an_answer_without_a_body_has_no_type_of_one(node: Node, client: str) -> None:
    rule = _create(node, client_id=client, rate=5, window=60)
    for method, path, body in (
        ("POST", "/v1/admin/counters/reset", {"client_id": client}),
        ("DELETE", f"{RULES}/{rule['id']}", None),
    ):
        answer = node.request(method, path, json=body)
        assert (answer.status_code, answer.content) == (204, b"")
        assert "Content-Type" not in answer.headers


def test_rules_of_other_endpoints_and_clients_are_other_rules(node: Node, client: str) -> None:
    names = [(client, None), (client, "login"), (client, "Login"), (client + "x", None), (client + "*", None)]
    ids = {_create(node, client_id=name, endpoint=endpoint, rate=1, window=1)["id"] for name, endpoint in names}
    assert len(ids) == len(names)


def test_what_is_sent_is_what_is_stored_and_shown(node: Node, client: str) -> None:
    rule = {
        "client_id": f"{client}-é🦊_*",
        "endpoint": "GET /é?x=1&y=*",
        "limits": [
            {"rate": 10, "window": 1, "algorithm": "gcra", "burst": 20},
            {"rate": 15, "window": 60, "algorithm": "sliding_window", "burst": None},
            {"rate": 1000, "window": 86400, "algorithm": None, "burst": None},
        ],
        "action": "limit",
        "fail_mode": "local",
        "shadow": True,
        "enabled": False,
        "description": "two lines? no: 'quotes', \"more\" and <b>",
    }
    stored = _create(node, **rule)
    assert {name: stored[name] for name in rule} == rule
    assert node.request("GET", f"{RULES}/{stored['id']}").json() == stored
    assert stored in node.request("GET", RULES).json()


def test_allow_and_block_need_no_limit(node: Node, client: str) -> None:
    for action in ("allow", "block"):
        stored = _create(node, client_id=f"{client}-{action}", action=action)
        assert (stored["action"], stored["rate"], stored["window"], stored["limits"]) == (action, None, None, [])


def test_the_list_is_an_array_and_filters_by_client_and_endpoint(node: Node, client: str) -> None:
    ids = [_create(node, client_id=client, endpoint=endpoint, rate=1, window=1)["id"] for endpoint in (None, "a", "b")]
    other = _create(node, client_id=client + "*", endpoint="a", rate=1, window=1)["id"]

    def listed(**filters: str) -> list[int]:
        return [rule["id"] for rule in node.request("GET", RULES, params=filters).json()]

    assert listed(client_id=client) == ids
    assert listed(client_id=client, endpoint="b") == ids[2:]
    assert listed(client_id=client + "*") == [other]
    assert {ids[1], other} <= set(listed(endpoint="a"))
    assert listed(client_id=client + "none") == []
    assert {*ids, other} <= set(listed())


def test_the_longest_names_can_be_asked_for(node: Node) -> None:
    longest = {"client_id": "🦊" * 256, "endpoint": "é" * 127 + "🦊"}
    stored = _create(node, **longest, rate=1, window=1)
    assert node.request("GET", RULES, params=longest).json() == [stored]


def test_a_deleted_rule_is_gone(node: Node, client: str) -> None:
    stored = _create(node, client_id=client, rate=1, window=60)
    answer = node.request("DELETE", f"{RULES}/{stored['id']}")
    assert (answer.status_code, answer.content) == (204, b"")
    for method in ("GET", "DELETE"):
        problem_of(node.request(method, f"{RULES}/{stored['id']}"), 404)
    assert stored["id"] not in [rule["id"] for rule in node.request("GET", RULES).json()]
    assert _create(node, client_id=client, rate=1, window=60)["id"] != stored["id"]


@pytest.mark.parametrize(
    "rule_id", ["0", "2147483647", "2147483648", "9223372036854775808", "9" * 100, "-1", "x", "1.0"]
)
@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_an_id_of_no_rule_is_404(node: Node, method: str, rule_id: str) -> None:
    problem_of(node.request(method, f"{RULES}/{rule_id}"), 404)


def test_the_short_form_is_the_seeds(own_node: Node) -> None:
    assert own_node.request("GET", "/rules").json() == {"default": {"rate": 7, "window": 70}}
    for endpoint, rate in ((None, 100), ("login", 20), ("register", 10)):
        _create(own_node, client_id="client_a", endpoint=endpoint, rate=rate, window=60)
    _create(own_node, client_id="client_b", rate=50, window=60)
    _create(own_node, client_id="only_login", endpoint="login", rate=5, window=60)
    _create(own_node, client_id="off", rate=1, window=1, enabled=False)
    _create(own_node, client_id="shadow", rate=1, window=1, shadow=True)
    table = {
        "default": {"rate": 7, "window": 70},
        "client_a": {
            "rate": 100,
            "window": 60,
            "endpoints": {"login": {"rate": 20, "window": 60}, "register": {"rate": 10, "window": 60}},
        },
        "client_b": {"rate": 50, "window": 60},
        "only_login": {"endpoints": {"login": {"rate": 5, "window": 60}}},
    }
    assert own_node.request("GET", "/rules").json() == table


def test_a_stored_star_rule_overrides_the_default(own_node: Node, client: str) -> None:
    assert own_node.check(client, cost=0)["rule_id"] == "default"
    star = own_node.put_rule(client_id="*", rate=3, window=30)
    decision = own_node.check(client, cost=0)
    assert (decision["rule_id"], decision["limit"], decision["window"]) == (star["id"], 3, 30)
    assert own_node.request("GET", "/rules").json()["default"] == {"rate": 3, "window": 30}
    own_node.request("DELETE", f"{RULES}/{star['id']}")
    assert own_node.eventually(lambda: own_node.check(client, cost=0)["rule_id"] == "default")


def test_answers_are_json(node: Node, client: str) -> None:
    answer = node.request("POST", RULES, json={"client_id": client, "rate": 1, "window": 1})
    assert answer.headers["Content-Type"] == "application/json"
    assert json.loads(answer.content)
