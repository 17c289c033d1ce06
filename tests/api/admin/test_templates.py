"""Templates: built in and own, applied to a client or a pattern, in one step."""

from __future__ import annotations

from typing import Any

import pytest

from app.api.admin.rules.schemas import RuleSchema
from app.rules.sql.templates import BUILT_IN
from tests.api.conftest import OtherTenant
from tests.api.raw_http import problem_of
from tests.support.node import Node

TEMPLATES, RULES = "/v1/admin/templates", "/v1/admin/rules"


def _apply(node: Node, name: str, client: str) -> list[dict[str, Any]]:
    answer = node.request("POST", f"{TEMPLATES}/{name}/apply", json={"client_id": client})
    assert answer.status_code == 200, answer.text
    applied: list[dict[str, Any]] = answer.json()
    return applied


def test_those_built_in_are_listed_and_each_is_a_set_of_valid_rules(node: Node) -> None:
    listed = {template["name"]: template for template in node.request("GET", TEMPLATES).json()}
    assert {"free", "pro", "login-protection"} <= listed.keys()
    for name in BUILT_IN:
        assert listed[name]["builtin"]
        assert listed[name]["description"]
        for rule in listed[name]["rules"]:
            single = {name: rule.pop(name) for name in ("rate", "window", "algorithm", "burst")}
            assert single["rate"] == (rule["limits"][0]["rate"] if rule["limits"] else None)
            assert RuleSchema().load({"client_id": "x"} | {k: v for k, v in rule.items() if v != []})


def test_a_template_makes_rules_for_a_client_or_a_pattern(node: Node, client: str) -> None:
    [rule] = _apply(node, "login-protection", f"{client}*")
    assert (rule["client_id"], rule["endpoint"], rule["fail_mode"]) == (f"{client}*", "login", "closed")
    assert node.request("GET", f"{RULES}/{rule['id']}").json() == rule
    node.await_rules()
    assert [node.check(f"{client}-1", "login")["allowed"] for _ in range(6)] == [True] * 5 + [False]
    two = _apply(node, "signup-protection", client)
    assert sorted(rule["endpoint"] for rule in two) == ["password_reset", "register"]


def test_applying_again_replaces_what_differs_and_keeps_counters(node: Node, client: str) -> None:
    [free] = _apply(node, "free", client)
    assert _apply(node, "free", client) == [free]
    [pro] = _apply(node, "pro", client)
    assert (pro["id"], pro["version"], pro["rate"]) == (free["id"], 2, 600)


def test_a_tenant_has_templates_of_its_own(node: Node, client: str, other_tenant: OtherTenant) -> None:
    own = {
        "name": f"t-{client}",
        "description": "ours",
        "rules": [{"rate": 5, "window": 60}, {"endpoint": "login", "rate": 1, "window": 60, "fail_mode": "closed"}],
    }
    created = node.request("POST", TEMPLATES, json=own)
    assert (created.status_code, created.json()["builtin"]) == (201, False)
    assert created.json() in node.request("GET", TEMPLATES).json()
    assert [rule["rate"] for rule in _apply(node, own["name"], client)] == [5, 1]
    replaced = node.request("POST", TEMPLATES, json={"name": own["name"], "rate": 9, "window": 60})
    assert (replaced.status_code, replaced.json()["rules"][0]["rate"]) == (200, 9)
    assert [rule["rate"] for rule in _apply(node, own["name"], f"{client}-2")] == [9]
    listed = node.request("GET", TEMPLATES, key=other_tenant.key).json()
    assert own["name"] not in [template["name"] for template in listed]
    path = f"{TEMPLATES}/{own['name']}"
    problem_of(node.request("POST", f"{path}/apply", key=other_tenant.key, json={"client_id": client}), 404)
    assert node.request("DELETE", path).status_code == 204
    problem_of(node.request("DELETE", path), 404)
    subject = {"subject": f"template {own['name']}"}
    events = node.request("GET", "/v1/admin/audit", params=subject).json()
    assert [event["action"] for event in events] == ["template.delete", "template.replace", "template.create"]


def test_those_built_in_stay(node: Node) -> None:
    problem_of(node.request("POST", TEMPLATES, json={"name": "free", "rate": 1, "window": 1}), 409)
    problem_of(node.request("DELETE", f"{TEMPLATES}/free"), 409)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"rate": 1, "window": 1}, "name"),
        ({"name": ""}, "name"),
        ({"name": "x"}, "rate"),
        ({"name": "x", "rules": []}, "rules"),
        ({"name": "x", "rules": [{"rate": 1}]}, "rules"),
        ({"name": "x", "rules": [{"rate": 1, "window": 1}], "rate": 1}, "rules"),
        ({"name": "x", "rules": [{"rate": 1, "window": 1}] * 2}, "rules"),
        ({"name": "x", "rules": [{"rate": 1, "window": 1, "client_id": "a"}]}, "rules"),
        ({"name": "x", "rate": 1, "window": 1, "client_id": "a"}, "client_id"),
    ],
    ids=str,
)
def test_a_template_that_cannot_be_is_422(node: Node, body: dict[str, Any], field: str) -> None:
    assert field in problem_of(node.request("POST", TEMPLATES, json=body), 422)["errors"]


@pytest.mark.parametrize("body", [{}, {"client_id": ""}, {"client_id": "a\x00"}, {"client_id": "a", "rate": 1}])
def test_an_application_to_no_client_is_422(node: Node, body: dict[str, Any]) -> None:
    problem_of(node.request("POST", f"{TEMPLATES}/free/apply", json=body), 422)


@pytest.mark.parametrize("name", ["none", "%00", "pr%00o", "x" * 1000])
def test_an_unknown_template_is_404(node: Node, name: str) -> None:
    problem_of(node.request("POST", f"{TEMPLATES}/{name}/apply", json={"client_id": "a"}), 404)
    problem_of(node.request("DELETE", f"{TEMPLATES}/{name}"), 404)
