"""If-None-Match: a change that is for where nothing is yet does not replace what is there. If-Match has its tests in
test_rule_history.py."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.raw_http import problem_of
from tests.support.node import Node

RULES, TEMPLATES = "/v1/admin/rules", "/v1/admin/templates"
LIMIT = {"rate": 5, "window": 60}


def _create(node: Node, body: dict[str, Any], path: str = RULES, tag: str = "*") -> Any:
    return node.request("POST", path, json=body, headers={"If-None-Match": tag})


def test_a_rule_is_created_only_where_there_is_none(node: Node, client: str) -> None:
    """The reproduction: a create that unblocked a client."""
    created = _create(node, {"client_id": client, "action": "block"})
    assert created.status_code == 201
    problem = problem_of(_create(node, {"client_id": client} | LIMIT), 412)
    assert problem["detail"] == "the rule is at version 1 now"
    assert node.request("GET", created.headers["Location"]).json() == created.json()
    for other in ({"endpoint": "login"}, {"shadow": True}):
        assert _create(node, {"client_id": client} | LIMIT | other).status_code == 201
    node.request("DELETE", created.headers["Location"])
    assert _create(node, {"client_id": client} | LIMIT).status_code == 201


@pytest.mark.parametrize(
    ("tag", "status"),
    [('"1"', 412), ('W/"1"', 412), ('"2", "1"', 412), ('"2"', 200), ('"x"', 200), ("", 200), ("*", 412)],
)
@pytest.mark.parametrize("way", ["POST", "PUT", "PATCH", "DELETE", "rollback", "promote"])
def test_every_change_knows_it(node: Node, client: str, way: str, tag: str, status: int) -> None:
    rule = node.request("POST", RULES, json={"client_id": client, "shadow": way == "promote"} | LIMIT).json()
    path, body, method = f"{RULES}/{rule['id']}", {"client_id": client, "rate": 6, "window": 60}, way
    if way == "POST":
        path = RULES
    elif way in ("rollback", "promote"):
        method, path, body = "POST", f"{path}/{way}", {"version": 1}
    elif way == "PATCH":
        body = {"rate": 6}
    sent = None if way in ("DELETE", "promote") else body
    answer = node.request(method, path, json=sent, headers={"If-None-Match": tag})
    assert answer.status_code == (204 if (way, status) == ("DELETE", 200) else status), answer.text
    if status == 412:
        assert node.request("GET", f"{RULES}/{rule['id']}").json() == rule


def test_both_conditions_have_to_hold(node: Node, client: str) -> None:
    rule = node.request("POST", RULES, json={"client_id": client} | LIMIT).json()
    path, change = f"{RULES}/{rule['id']}", {"rate": 6}
    for headers, status in (
        ({"If-Match": '"1"', "If-None-Match": "*"}, 412),
        ({"If-Match": '"2"', "If-None-Match": '"2"'}, 412),
        ({"If-Match": '"1"', "If-None-Match": '"2"'}, 200),
    ):
        assert node.request("PATCH", path, json=change, headers=headers).status_code == status, headers


def test_a_template_is_created_only_where_there_is_none(node: Node, client: str) -> None:
    assert _create(node, {"name": client} | LIMIT, TEMPLATES).status_code == 201
    problem_of(_create(node, {"name": client, "rate": 6, "window": 60}, TEMPLATES), 412)
    [kept] = [each for each in node.request("GET", TEMPLATES).json() if each["name"] == client]
    assert kept["rules"][0]["rate"] == 5
    assert _create(node, {"name": client} | LIMIT, TEMPLATES, tag='"1"').status_code == 200
    changed = node.request("POST", TEMPLATES, json={"name": f"{client}-2"} | LIMIT, headers={"If-Match": "*"})
    problem_of(changed, 412)


def test_a_template_is_applied_only_where_there_is_no_rule_of_it(node: Node, client: str) -> None:
    """All of its rules, or none. A rule that is as the template says is there, too."""
    path, sent = f"{TEMPLATES}/signup-protection/apply", {"client_id": client}
    [first, second] = node.request("POST", path, json=sent, headers={"If-None-Match": "*"}).json()
    problem_of(node.request("POST", path, json=sent, headers={"If-None-Match": "*"}), 412)
    node.request("DELETE", f"{RULES}/{first['id']}")
    node.request("PATCH", f"{RULES}/{second['id']}", json={"rate": 7})
    for headers in ({"If-None-Match": "*"}, {"If-Match": "*"}):
        problem_of(node.request("POST", path, json=sent, headers=headers), 412)
    [kept] = node.request("GET", f"{RULES}?client_id={client}").json()
    assert (kept["id"], kept["rate"], kept["version"]) == (second["id"], 7, 2)
