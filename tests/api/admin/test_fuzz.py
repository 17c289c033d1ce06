"""Whatever is sent to whichever route that reads bodies by schemas: an answer below 500, and always JSON or nothing."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.api.conftest import OtherTenant
from tests.api.raw_http import problem_of
from tests.support.examples import examples
from tests.support.node import Node

ROUTES = [
    ("POST", "/v1/admin/rules"),
    ("PUT", "/v1/admin/rules/{rule}"),
    ("PATCH", "/v1/admin/rules/{rule}"),
    ("POST", "/v1/admin/rules/{rule}/rollback"),
    ("POST", "/v1/admin/import?dry_run=true"),
    ("POST", "/v1/admin/templates"),
    ("POST", "/v1/admin/templates/free/apply"),
    ("POST", "/v1/admin/counters/reset"),
    ("POST", "/v1/admin/api-keys"),
    ("POST", "/v1/admin/api-keys/{key}/rotate"),
    ("POST", "/v1/leases"),
    ("POST", "/v1/leases/{lease}/return"),
]
LISTS = ["rules", "rules/0/versions", "audit", "explain", "counters", "templates", "api-keys", "export"]
NAMES = [
    *("client_id", "endpoint", "rate", "window", "limits", "algorithm", "burst", "action", "fail_mode", "shadow"),
    *("enabled", "description", "rules", "version", "name", "scopes", "expires_at", "tenant", "limit_key"),
    *("overlap_seconds", "permits", "ttl_ms", "unused"),
]
QUERIES = [
    *("client_id", "limit_key", "endpoint", "page", "page_size", "enabled", "since", "until", "tenant_id", "revoked"),
    *("actor", "subject", "tenant"),
]

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20) | st.sampled_from(["a*", "gcra", "2030-01-01"])
scalars = st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.floats() | texts
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3))
amounts = st.integers(1, 9) | values
limits = st.fixed_dictionaries({}, optional={"rate": amounts, "window": amounts, "burst": amounts, "algorithm": texts})
nearly_right = st.fixed_dictionaries(
    {},
    optional={"rate": amounts, "window": amounts, "limits": st.lists(limits | values, max_size=3), "version": amounts},
)
bodies = values | st.dictionaries(st.sampled_from(NAMES), values, max_size=6) | nearly_right
rounds = settings(max_examples=examples(40), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def places(node: Node, other_tenant: OtherTenant) -> dict[str, Any]:
    """What the paths name: things that are there, so that all of what a route does with a body is reached."""

    def made(path: str, body: dict[str, Any], name: str) -> Any:
        return node.request("POST", path, key=other_tenant.key, json=body).json()[name]

    return {
        "rule": made("/v1/admin/rules", {"client_id": "fuzzed", "rate": 1, "window": 1}, "id"),
        "key": made("/v1/admin/api-keys", {"name": "fuzzed", "scopes": ["check"]}, "id"),
        "lease": made("/v1/leases", {"client_id": "leased", "permits": 1, "ttl_ms": 600_000}, "lease_id"),
    }


@pytest.mark.parametrize(("method", "path"), ROUTES, ids=str)
@rounds
@given(body=bodies)
def test_no_body_is_an_error_of_ours(
    node: Node, other_tenant: OtherTenant, places: dict[str, Any], method: str, path: str, body: Any
) -> None:
    raw = json.dumps(body).encode()
    headers = {"Content-Type": "application/json"}
    answer = node.request(method, path.format(**places), key=other_tenant.key, data=raw, headers=headers)
    assert answer.status_code < 500, (raw, answer.text)
    assert not answer.content or answer.json() is not None


@pytest.mark.parametrize(
    ("limits", "missing"),
    [
        ([{}], {"0": ["rate", "window"]}),
        ([{"rate": 5}], {"0": ["window"]}),
        ([{"rate": 5, "window": 1}, {"window": 5}], {"1": ["rate"]}),
    ],
)
def test_limits_that_are_patched_are_whole(
    node: Node, other_tenant: OtherTenant, places: dict[str, Any], limits: list[Any], missing: dict[str, list[str]]
) -> None:
    rule = f"/v1/admin/rules/{places['rule']}"
    before = node.request("GET", rule, key=other_tenant.key).json()
    errors = problem_of(node.request("PATCH", rule, key=other_tenant.key, json={"limits": limits}), 422)["errors"]
    required = ["Missing data for required field."]
    assert errors == {"limits": {place: dict.fromkeys(names, required) for place, names in missing.items()}}
    assert node.request("GET", rule, key=other_tenant.key).json() == before


@pytest.mark.parametrize("path", LISTS)
@rounds
@given(query=st.dictionaries(st.sampled_from(QUERIES), texts | st.integers().map(str), max_size=5))
def test_no_query_is_an_error_of_ours(node: Node, other_tenant: OtherTenant, path: str, query: dict[str, str]) -> None:
    answer = node.request("GET", f"/v1/admin/{path}", key=other_tenant.key, params=query)
    assert answer.status_code < 500, (query, answer.text)


@rounds
@given(raw=st.binary(max_size=60) | st.text("-:?[]{}#&*!|>'\"%@` \nab1.~", max_size=40).map(str.encode))
def test_no_file_is_an_error_of_ours(node: Node, other_tenant: OtherTenant, raw: bytes) -> None:
    headers = {"Content-Type": "application/yaml"}
    path = "/v1/admin/import?dry_run=true"
    answer = node.request("POST", path, key=other_tenant.key, data=b"rules:\n- " + raw, headers=headers)
    assert answer.status_code in (200, 400, 422), (raw, answer.text)
