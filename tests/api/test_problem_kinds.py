"""The `type` of a problem tells apart what a program may want to; every kind is used, documented and reachable."""

from __future__ import annotations

import re

import pytest

from app.api.problem_kinds import KINDS, PROBLEMS_PAGE, type_of
from tests.api.raw_http import problem_of
from tests.support.node import ADMIN_KEY, ROOT, Node

CHECK, RULES = "/v1/check", "/v1/admin/rules"


def test_the_kinds_are_those_that_the_code_gives() -> None:
    source = "".join(path.read_text() for path in (ROOT / "app").rglob("*.py"))
    given = set(re.findall(r'kind ?= ?"([a-z-]+)"', source)) - {""}
    given |= set(re.findall(r'raise (?:Conflict|Forbidden|Unauthorized)\([^\n]*, "([a-z-]+)"\)', source))
    given |= set(re.findall(r'Unauthorized\("[^"]+", "([a-z-]+)"\)', source)) | {"invalid-request"}
    assert given == KINDS.keys()


def test_conflicts_that_differ_in_prose_differ_in_type(node: Node, client: str) -> None:
    check = {"client_id": client, "request_id": "once"}
    assert node.request("POST", CHECK, key=None, json=check).ok
    used = problem_of(node.request("POST", CHECK, key=None, json=check | {"cost": 2}), 409)
    [one, two] = (
        node.request("POST", RULES, json={"client_id": f"{client}-{name}", "rate": 1, "window": 1}).json()
        for name in "ab"
    )
    twin = node.request("PATCH", f"{RULES}/{one['id']}", json={"client_id": two["client_id"]})
    assert used["type"] == type_of("request-id-conflict")
    assert problem_of(twin, 409)["type"] == type_of("rule-exists")
    [_, refused] = node.request(
        "POST", f"{CHECK}/batch", key=None, json={"checks": [check, check | {"cost": 3}]}
    ).json()["results"]
    assert refused["error"]["type"] == type_of("request-id-conflict")


@pytest.mark.parametrize(
    ("method", "path", "key", "options", "status", "kind"),
    [
        ("POST", CHECK, None, {"data": b"{", "headers": {"Content-Type": "application/json"}}, 400, "malformed-body"),
        ("POST", CHECK, None, {"json": {}}, 422, "invalid-request"),
        ("GET", RULES, None, {}, 401, "key-missing"),
        ("GET", RULES, "wrong", {}, 401, "key-unknown"),
        ("GET", f"{RULES}/2147483647", ADMIN_KEY, {}, 404, "not-found"),
        ("GET", f"{RULES}?page=x", ADMIN_KEY, {}, 422, "invalid-request"),
        ("DELETE", f"{RULES}/1", ADMIN_KEY, {"headers": {"If-Match": '"999"'}}, 412, "stale"),
        ("GET", "/v1/nothing", None, {}, 404, None),
        ("PUT", CHECK, None, {}, 405, None),
        ("POST", CHECK, None, {"data": b"{}"}, 415, None),
    ],
)
def test_each_problem_has_its_type(
    node: Node, method: str, path: str, key: str | None, options: dict[str, object], status: int, kind: str | None
) -> None:
    assert problem_of(node.request(method, path, key=key, **options), status)["type"] == type_of(kind)


def test_the_documentation_has_the_same_table() -> None:
    rows = re.findall(r"^\| `([a-z-]+)` \| (.+) \|$", (ROOT / "docs/problems.md").read_text(), re.MULTILINE)
    assert dict(rows) == KINDS


def test_a_type_leads_to_its_meaning(node: Node) -> None:
    page = node.request("GET", PROBLEMS_PAGE, key=None)
    assert (page.status_code, page.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    for kind, meaning in KINDS.items():
        assert f'<dt id="{kind}">' in page.text
        assert meaning[:3].isdigit()
