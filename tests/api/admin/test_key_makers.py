"""A key neither outlives nor outranks its maker: expiry, scopes, and what goes with a revoked one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.api.conftest import MakeKey, OtherTenant
from tests.api.raw_http import problem_of
from tests.support.node import Node

KEYS = "/v1/admin/api-keys"
SOON = timedelta(hours=1)


def at(moment: datetime) -> str:
    return moment.isoformat()


def ask(node: Node, maker: dict[str, Any], *scopes: str, **fields: Any) -> Any:
    return node.request("POST", KEYS, key=maker["key"], json={"name": "made", "scopes": list(scopes)} | fields)


def rotate(node: Node, key: dict[str, Any], by: dict[str, Any]) -> Any:
    return node.request("POST", f"{KEYS}/{key['id']}/rotate", key=by["key"], json={})


def revoke(node: Node, key: dict[str, Any], by: str, **query: str) -> Any:
    return node.request("DELETE", f"{KEYS}/{key['id']}", key=by, params=query)


def living(node: Node) -> set[str]:
    return {key["id"] for key in node.request("GET", KEYS).json()}


def ids(*keys: dict[str, Any]) -> set[str]:
    return {key["id"] for key in keys}


@pytest.fixture(scope="module")
def ends(make_key: MakeKey) -> dict[str, Any]:
    """A key that makes keys, for an hour."""
    return make_key("keys:write", "check", expires_at=at(datetime.now(UTC) + SOON))


@pytest.mark.parametrize("fields", [{}, {"expires_at": None}])
def test_a_key_expires_with_its_maker_where_nothing_else_is_asked(
    node: Node, ends: dict[str, Any], fields: dict[str, Any]
) -> None:
    made = ask(node, ends, "check", **fields)
    assert (made.status_code, made.json()["expires_at"], made.json()["maker"]) == (201, ends["expires_at"], ends["id"])


def test_a_key_may_expire_before_its_maker_not_after(node: Node, ends: dict[str, Any]) -> None:
    end = datetime.fromisoformat(ends["expires_at"])
    for earlier in (timedelta(0), SOON / 2):
        made = ask(node, ends, "check", expires_at=at(end - earlier)).json()
        assert datetime.fromisoformat(made["expires_at"]) == end - earlier
    for later in (timedelta(microseconds=1), timedelta(days=9)):
        problem = problem_of(ask(node, ends, "check", expires_at=at(end + later)), 403)
        assert problem["detail"].endswith(f"expires_at is at most {at(end)}")


def test_a_key_that_outlives_ones_own_cannot_be_rotated(node: Node, make_key: MakeKey, ends: dict[str, Any]) -> None:
    lasting = make_key("check")
    assert "cannot outlive" in problem_of(rotate(node, lasting, ends), 403)["detail"]
    assert rotate(node, ends, ends).json()["expires_at"] == ends["expires_at"]
    assert lasting["id"] in living(node)


def test_a_key_that_never_ends_makes_such_keys(node: Node, make_key: MakeKey) -> None:
    assert ask(node, make_key("keys:write", "check"), "check").json()["expires_at"] is None


def test_an_operator_has_no_maker_and_is_bounded_by_nothing(node: Node, make_key: MakeKey) -> None:
    made = make_key("check", "tenants:write")
    assert (made["maker"], made["rotation_of"], made["owner"]) == (None, None, f"test ({made['id']})")
    assert made["expires_at"] is None


def test_what_has_a_scope_that_one_lacks_cannot_be_touched(node: Node, make_key: MakeKey) -> None:
    lesser, greater = make_key("keys:write", "check"), make_key("keys:write", "check", "rules:write")
    for answer in (
        ask(node, lesser, "check", "rules:write"),
        rotate(node, greater, lesser),
        revoke(node, greater, lesser["key"]),
        revoke(node, greater, lesser["key"], children="true"),
    ):
        assert "lacks the scope rules:write" in problem_of(answer, 403)["detail"]
    assert greater["id"] in living(node)
    assert revoke(node, lesser, greater["key"]).status_code == 204


def test_what_a_revoked_key_made_goes_on_unless_it_is_to_go_too(node: Node, make_key: MakeKey) -> None:
    maker, bystander = make_key("keys:write", "check"), make_key("check")
    child = ask(node, maker, "keys:write", "check").json()
    grandchild = ask(node, child, "check").json()
    admin = node.request("POST", f"{KEYS}/{child['id']}/rotate", json={}).json()
    of_rotation = ask(node, admin, "check").json()
    every = ids(maker, child, grandchild, admin, of_rotation)
    assert revoke(node, child, maker["key"]).status_code == 204
    assert every & living(node) == every - {child["id"]}
    assert revoke(node, maker, maker["key"], children="true").status_code == 204
    assert (every | ids(bystander)) & living(node) == ids(bystander)
    events = node.request("GET", "/v1/admin/audit", params={"action": "key.revoke"}).json()[: len(every)]
    assert {event["subject"] for event in events} == {f"key {key_id}" for key_id in every}
    assert events[0]["before"].keys() >= {"maker", "owner", "rotation_of"}


def test_all_of_a_line_goes_with_any_key_of_it_also_one_that_is_revoked(node: Node, make_key: MakeKey) -> None:
    first = make_key("keys:write", "check")
    child = ask(node, first, "check").json()
    second = rotate(node, first, first).json()
    third = rotate(node, second, second).json()
    assert {second["rotation_of"], third["rotation_of"]} == {first["id"]}
    assert revoke(node, third, third["key"]).status_code == 204
    assert ids(first, child, second) <= living(node)
    admin = make_key("keys:write", "check")
    assert revoke(node, third, admin["key"], children="true").status_code == 204
    assert not ids(first, child, second, third) & living(node)
    problem_of(revoke(node, third, admin["key"], children="true"), 404)


def test_a_key_of_another_tenant_stays_out_of_reach(node: Node, make_key: MakeKey, other_tenant: OtherTenant) -> None:
    ours = make_key("check")
    for query in ({}, {"children": "true"}):
        problem_of(revoke(node, ours, other_tenant.key, **query), 404)
    assert ours["id"] in living(node)


def test_what_is_sent_for_an_id_is_not_repeated(node: Node, make_key: MakeKey) -> None:
    """It may be the key itself."""
    secret = make_key("check")["key"]
    for method, path in (("DELETE", f"{KEYS}/{secret}"), ("POST", f"{KEYS}/{secret}/rotate")):
        answer = node.request(method, path, json={} if method == "POST" else None)
        assert secret not in str(problem_of(answer, 404))
    assert secret not in node.log.read_text()


def test_an_id_with_a_nul_is_no_other_spelling(node: Node, make_key: MakeKey) -> None:
    key = make_key("check")
    path = f"{KEYS}/{key['id'][:4]}%00{key['id'][4:]}"
    for method, beyond in (("DELETE", ""), ("POST", "/rotate")):
        problem_of(node.request(method, path + beyond, json={} if beyond else None), 404)
    assert key["id"] in living(node)


@pytest.mark.parametrize("query", [{"children": "perhaps"}, {"child": "true"}])
def test_a_bad_query_is_named(node: Node, make_key: MakeKey, query: dict[str, str]) -> None:
    key = make_key("check")
    assert problem_of(node.request("DELETE", f"{KEYS}/{key['id']}", params=query), 422)["errors"].keys() == query.keys()
    assert key["id"] in living(node)
