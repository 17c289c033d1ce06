"""Rules over HTTP on a bad day: PUT, PATCH, lost races, versions, rollback, filters and pages."""

from __future__ import annotations

import contextlib
import json
import threading
from typing import Any

import psycopg2
import pytest

from tests.api.raw_http import problem_of
from tests.support.node import ADMIN_KEY, Node

RULES = "/v1/admin/rules"


def _create(node: Node, **rule: Any) -> dict[str, Any]:
    answer = node.request("POST", RULES, json={"rate": 5, "window": 60} | rule)
    assert answer.status_code == 201, answer.text
    stored: dict[str, Any] = answer.json()
    return stored


def _path(rule: dict[str, Any], suffix: str = "") -> str:
    return f"{RULES}/{rule['id']}{suffix}"


def test_put_replaces_all_and_patch_only_what_is_sent(node: Node, client: str) -> None:
    rule = _create(node, client_id=client, description="kept", fail_mode="closed", algorithm="gcra", burst=7)
    patched = node.request("PATCH", _path(rule), json={"rate": 6, "enabled": False})
    assert patched.status_code == 200
    unchanged = {"window": 60, "algorithm": "gcra", "burst": 7, "description": "kept", "fail_mode": "closed"}
    changed = {"rate": 6, "enabled": False, "version": 2}
    assert unchanged.items() | changed.items() <= {k: v for k, v in patched.json().items() if k != "limits"}.items()
    replaced = node.request("PUT", _path(rule), json={"client_id": client, "rate": 1, "window": 2})
    defaults = {"algorithm": None, "burst": None, "description": "", "fail_mode": None, "enabled": True}
    assert (replaced.status_code, replaced.json()["version"]) == (200, 3)
    assert defaults.items() <= {k: v for k, v in replaced.json().items() if k != "limits"}.items()
    assert node.request("GET", _path(rule)).json() == replaced.json()


def test_the_rate_of_a_patch_is_that_of_the_first_limit_and_limits_replace_all(node: Node, client: str) -> None:
    rule = _create(node, client_id=client)
    two = [{"rate": 1, "window": 1}, {"rate": 10, "window": 60}]
    answer = node.request("PATCH", _path(rule), json={"limits": two})
    assert [(limit["rate"], limit["window"]) for limit in answer.json()["limits"]] == [(1, 1), (10, 60)]
    answer = node.request("PATCH", _path(rule), json={"rate": 3})
    assert [(limit["rate"], limit["window"]) for limit in answer.json()["limits"]] == [(3, 1), (10, 60)]
    answer = node.request("PATCH", _path(rule), json={"limits": two[:1]})
    assert (answer.json()["rate"], len(answer.json()["limits"])) == (1, 1)
    assert node.request("PATCH", _path(rule), json={"action": "block"}).json()["rate"] == 1


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"rate": 0}, "rate"),
        ({"rate": None}, "rate"),
        ({"window": "60"}, "window"),
        ({"burst": 9, "algorithm": "fixed_window"}, "burst"),
        ({"rate": 1_000_000_000, "window": 60}, "rate"),
        ({"client_id": ""}, "client_id"),
        ({"limits": []}, "limits"),
        ({"limits": [{"rate": 1, "window": 1}], "rate": 2}, "limits"),
        ({"tenant": "other"}, "tenant"),
    ],
    ids=str,
)
def test_a_patch_is_judged_by_what_it_makes(node: Node, client: str, body: dict[str, Any], field: str) -> None:
    rule = _create(node, client_id=client)
    assert field in problem_of(node.request("PATCH", _path(rule), json=body), 422)["errors"]
    assert node.request("GET", _path(rule)).json() == rule


def test_a_rule_cannot_take_the_place_of_another(node: Node, client: str) -> None:
    other, rule = _create(node, client_id=client, endpoint="a"), _create(node, client_id=client, endpoint="b")
    problem = problem_of(node.request("PATCH", _path(rule), json={"endpoint": "a"}), 409)
    assert str(other["id"]) in problem["detail"]
    assert node.request("PATCH", _path(rule), json={"endpoint": None}).json()["endpoint"] is None


def test_an_answer_about_a_rule_has_its_version_as_etag(node: Node, client: str) -> None:
    created = node.request("POST", RULES, json={"client_id": client, "rate": 5, "window": 60})
    path = _path(created.json())
    edited = node.request("PATCH", path, json={"rate": 6})
    tags = [answer.headers["ETag"] for answer in (created, edited, node.request("GET", path))]
    assert tags == ['"1"', '"2"', '"2"']


@pytest.mark.parametrize("tag", ['"1"', 'W/"2"', "2x", '"1", "3"', '""'])
def test_a_change_meant_for_another_version_is_412_and_changes_nothing(node: Node, client: str, tag: str) -> None:
    rule = _create(node, client_id=client)
    now = node.request("PATCH", _path(rule), json={"rate": 6}).json()
    body = {"client_id": client, "rate": 9, "window": 9}
    for method, path, sent in (
        ("PUT", _path(rule), body),
        ("PATCH", _path(rule), {"rate": 9}),
        ("DELETE", _path(rule), None),
        ("POST", RULES, body),
        ("POST", _path(rule, "/rollback"), {"version": 1}),
    ):
        problem = problem_of(node.request(method, path, json=sent, headers={"If-Match": tag}), 412)
        assert "version 2" in problem["detail"]
    assert node.request("GET", _path(rule)).json() == now


def test_a_change_meant_for_this_version_or_any_is_made(node: Node, client: str) -> None:
    rule = _create(node, client_id=client)
    for version, tag in ((2, '"1"'), (3, "*"), (4, '"9", "3"')):
        answer = node.request("PATCH", _path(rule), json={"rate": version}, headers={"If-Match": tag})
        assert (answer.status_code, answer.json()["version"]) == (200, version)
    problem_of(node.request("PUT", f"{RULES}/0", json={"rate": 1}, headers={"If-Match": "*"}), 422)
    new = {"client_id": f"{client}-new", "rate": 1, "window": 1}
    problem_of(node.request("POST", RULES, json=new, headers={"If-Match": "*"}), 412)
    assert node.request("DELETE", _path(rule), headers={"If-Match": '"4"'}).status_code == 204


def test_of_two_editors_who_saw_the_same_version_one_wins(node: Node, client: str) -> None:
    rule = _create(node, client_id=client)
    statuses: list[int] = []

    def edit(rate: int) -> None:
        headers = {"If-Match": '"1"', "Authorization": f"Bearer {ADMIN_KEY}"}
        answer = node.request("PATCH", _path(rule), key=None, json={"rate": rate}, headers=headers)
        statuses.append(answer.status_code)

    editors = [threading.Thread(target=edit, args=(rate,)) for rate in (6, 7, 8, 9)]
    for editor in editors:
        editor.start()
    for editor in editors:
        editor.join(20)
    assert sorted(statuses) == [200, 412, 412, 412]
    assert node.request("GET", _path(rule)).json()["version"] == 2


def test_versions_tell_what_changed_and_rolling_back_is_a_new_one(node: Node, client: str) -> None:
    rule = _create(node, client_id=client)
    node.request("PATCH", _path(rule), json={"rate": 6, "description": "more"})
    node.request("PATCH", _path(rule), json={"limits": [{"rate": 6, "window": 60}, {"rate": 50, "window": 3600}]})
    rolled_back = node.request("POST", _path(rule, "/rollback"), json={"version": 1})
    assert (rolled_back.status_code, rolled_back.json()["version"], rolled_back.json()["rate"]) == (200, 4, 5)
    versions = node.request("GET", _path(rule, "/versions")).json()
    assert [version["version"] for version in versions] == [4, 3, 2, 1]
    assert [version["rate"] for version in versions] == [5, 6, 6, 5]
    assert [version["change"] for version in versions] == ["rule.rollback", "rule.update", "rule.update", "rule.create"]
    assert {version["actor"] for version in versions} == {"bootstrap"}
    assert versions[2]["changes"] == {"rate": {"from": 5, "to": 6}, "description": {"from": "", "to": "more"}}
    assert versions[1]["changes"]["limits[1].window"] == {"from": None, "to": 3600}
    assert versions[3]["changes"] is None
    [second] = node.request("GET", _path(rule, "/versions"), params={"page": 3, "page_size": 1}).json()
    assert second == versions[2]
    node.await_rules()
    assert node.check(client, cost=0)["limit"] == 5


@pytest.mark.parametrize("version", [0, 9, "1", 1.0, True, None, 2**31, 10**30])
def test_there_is_no_rolling_back_to_what_never_was(node: Node, client: str, version: Any) -> None:
    rule = _create(node, client_id=client)
    answer = node.request("POST", _path(rule, "/rollback"), json={"version": version})
    problem_of(answer, 404 if version == 9 else 422)
    assert node.request("GET", _path(rule)).json() == rule


def test_unknown_rules_are_404_everywhere(node: Node) -> None:
    body = {"client_id": "x", "rate": 1, "window": 1}
    for number in ("0", "2147483648", "9" * 30):
        path = f"{RULES}/{number}"
        problem_of(node.request("PUT", path, json=body), 404)
        problem_of(node.request("PATCH", path, json={"rate": 1}), 404)
        problem_of(node.request("GET", f"{path}/versions"), 404)
        problem_of(node.request("POST", f"{path}/rollback", json={"version": 1}), 404)


def test_lists_are_filtered_and_paged(node: Node, client: str) -> None:
    fields: list[dict[str, Any]] = [{"endpoint": "a"}, {"enabled": False}, {"shadow": True}, {"endpoint": "b"}]
    ids = [_create(node, client_id=client, **each)["id"] for each in fields]

    def listed(**filters: Any) -> list[int]:
        answer = node.request("GET", RULES, params={"client_id": client} | filters)
        return [rule["id"] for rule in answer.json()]

    assert listed() == ids
    assert listed(endpoint="a") == ids[:1]
    for off, on in (("false", "true"), ("0", "1"), ("False", "True"), ("FALSE", "TRUE")):
        assert listed(enabled=off) == ids[1:2]
        assert listed(enabled=on) == [ids[0], *ids[2:]]
    assert listed(shadow="true") == ids[2:3]
    assert listed(shadow="false", enabled="true") == [ids[0], ids[3]]
    assert listed(page_size=3) == ids[:3]
    assert listed(page_size=3, page=2) == ids[3:]
    assert listed(page=10**30) == []
    answer = node.request("GET", RULES, params={"client_id": client, "page_size": 3})
    pagination = json.loads(answer.headers["X-Pagination"])
    assert (pagination["total"], pagination["total_pages"], pagination["next_page"]) == (4, 2, 2)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("page", "0"),
        ("page", "x"),
        ("page_size", "0"),
        ("page_size", "1001"),
        ("enabled", "yes"),
        ("shadow", ""),
        ("shadow", "2"),
        ("client_id", "a\x00b"),
        ("action", "deny"),
        ("client_id", "x" * 257),
        ("client_id", ["a", "a"]),
        ("page", ["1", "2"]),
    ],
)
def test_a_filter_that_cannot_be_is_422_and_named(node: Node, name: str, value: str | list[str]) -> None:
    assert name in problem_of(node.request("GET", RULES, params={name: value}), 422)["errors"]


@pytest.mark.parametrize("since", ["0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "yesterday"])
def test_a_time_that_cannot_be_is_422(node: Node, since: str) -> None:
    assert "since" in problem_of(node.request("GET", "/v1/admin/audit", params={"since": since}), 422)["errors"]


def test_a_time_may_have_any_offset(node: Node) -> None:
    """PostgreSQL knows those up to 15:59 only."""
    assert node.request("GET", "/v1/admin/audit", params={"since": "2090-01-01T00:00:00+23:59"}).json() == []


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", RULES, "client_id, group, layer, shared, endpoint, action, enabled, shadow, page, page_size"),
        (
            "GET",
            "/v1/admin/audit",
            "tenant_id, client_id, group, actor, action, subject, correlation_id, since, until, page, page_size",
        ),
        ("GET", "/v1/admin/api-keys", "tenant, revoked, page, page_size"),
        ("POST", "/v1/admin/import", "dry_run, replace"),
        ("DELETE", "/v1/admin/tenants/0", "dry_run"),
    ],
)
def test_what_is_no_filter_or_option_is_422_and_told_those_that_are(
    node: Node, method: str, path: str, allowed: str
) -> None:
    body = {"rules": []} if method == "POST" else None
    answer = node.request(method, path, params={"page_sise": "1", "dry-run": "true"}, json=body)
    told = [f"Unknown. Allowed are {allowed}." if "," in allowed else f"Unknown. Allowed is {allowed}."]
    assert problem_of(answer, 422)["errors"] == {"page_sise": told, "dry-run": told}


def test_a_switch_that_is_none_names_what_is_allowed(node: Node) -> None:
    for method, path, name in (
        ("GET", RULES, "enabled"),
        ("GET", "/v1/admin/api-keys", "revoked"),
        ("POST", "/v1/admin/import", "replace"),
        ("DELETE", "/v1/admin/tenants/0", "dry_run"),
    ):
        answer = node.request(method, path, params={name: "yes"}, json={"rules": []} if method == "POST" else None)
        assert problem_of(answer, 422)["errors"] == {name: ["Allowed are true, false, 1 and 0."]}


def test_a_rule_written_by_a_node_of_the_release_before_has_no_versions(
    node: Node, client: str, database_url: str
) -> None:
    rule = node.put_rule(client_id=client, rate=1, window=60)
    with contextlib.closing(psycopg2.connect(database_url)) as connection, connection, connection.cursor() as cursor:
        cursor.execute("DELETE FROM rule_versions WHERE rule_id = %s", (rule["id"],))
    answer = node.request("GET", f"/v1/admin/rules/{rule['id']}/versions")
    assert (answer.status_code, answer.json()) == (200, [])
