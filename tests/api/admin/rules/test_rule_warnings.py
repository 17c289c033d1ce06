"""What the answer to a change says of other rules: which do not decide because of it, and which do again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import requests

from devstack import Postgres
from tests.api.conftest import OtherTenant
from tests.support.hiding import hidden_after_changes
from tests.support.node import Node

RULES, TEMPLATES, IMPORT = "/v1/admin/rules", "/v1/admin/templates", "/v1/admin/import"

Call = Callable[..., requests.Response]


@pytest.fixture(scope="module")
def call(node: Node, make_tenant: Callable[[], OtherTenant]) -> Call:
    """A request of a tenant that has no rules but those of this file."""
    key = make_tenant().key
    return lambda method, path, **kwargs: node.request(method, path, key=key, **kwargs)


@pytest.fixture
def key(client: str) -> str:
    """A limit_key that no other test has rules for."""
    return f"key-{client}"


def _put(call: Call, **fields: Any) -> dict[str, Any]:
    limit = {} if "action" in fields or "limits" in fields else {"rate": 5, "window": 60}
    answer = call("POST", RULES, json=limit | fields)
    assert answer.status_code in (200, 201), answer.text
    stored: dict[str, Any] = answer.json()
    return stored


def _decides(call: Call, client_id: str, limit_key: str) -> Any:
    return call("POST", "/v1/check", json={"client_id": client_id, "limit_key": limit_key}).json()["rule_id"]


def _protection(call: Call, client: str, key: str) -> tuple[int, str]:
    """A rule for the endpoint and every client whose id begins like this one; its id, and its name in a warning."""
    rule = _put(call, client_id=f"{client}*", endpoint=key)
    assert "warnings" not in rule
    return rule["id"], f"rule {rule['id']} ({client}*, {key})"


def test_a_rule_for_any_endpoint_names_the_protections_that_it_hides(
    node: Node, call: Call, client: str, key: str
) -> None:
    number, protection = _protection(call, client, key)
    node.await_rules()
    assert _decides(call, f"{client}-1", key) == number
    plan = _put(call, client_id=f"{client}-1")
    hidden = f"{protection} does not decide for {client}-1 (rule {plan['id']}), whose own rule comes first"
    assert plan["warnings"] == [hidden]
    node.await_rules()
    assert _decides(call, f"{client}-1", key) == plan["id"]
    path = f"{RULES}/{plan['id']}"
    assert call("GET", path).json() == plan
    again = f"{protection} decides for {client}-1 again"
    for change, told in (({"rate": 6}, hidden), ({"enabled": False}, again), ({"enabled": True}, hidden)):
        assert call("PATCH", path, json=change).json()["warnings"] == [told], change
    assert call("PUT", path, json=plan).json()["warnings"] == [hidden]  # an answer can be sent back
    assert call("POST", f"{path}/rollback", json={"version": 3}).json()["warnings"] == [again]
    own = _put(call, client_id=f"{client}-1", endpoint=key)
    plan = call("PATCH", path, json={"enabled": True}).json()
    first = "this client's rules for an endpoint come first"
    assert plan["warnings"] == [f"not for {key} (rule {own['id']}): {first}"]


def test_a_protection_names_the_clients_that_it_does_not_hold_for(call: Call, client: str, key: str) -> None:
    plans = [_put(call, client_id=f"{client}-{number}")["id"] for number in range(2)]
    protection = _put(call, client_id=f"{client}*", endpoint=key)
    [told] = protection["warnings"]
    assert told == (
        f"rule {protection['id']} ({client}*, {key}) does not decide for "
        f"{client}-0 (rule {plans[0]}), {client}-1 (rule {plans[1]}), whose own rules come first"
    )


def test_a_deletion_says_on_trial_what_decides_again(call: Call, client: str, key: str) -> None:
    _, protection = _protection(call, client, key)
    plan = _put(call, client_id=f"{client}-1")
    path = f"{RULES}/{plan['id']}"
    trial = call("DELETE", path, params={"dry_run": "true"})
    shown = call("GET", path).json() | {"warnings": [f"{protection} decides for {client}-1 again"]}
    assert (trial.status_code, trial.json()) == (200, shown)  # with times as in every other answer
    assert call("GET", path).status_code == 200
    assert call("DELETE", path).status_code == 204


def test_a_template_and_an_import_name_what_they_hide(call: Call, client: str, key: str) -> None:
    """The pair that the built-in templates suggest: brute-force protection for all, a plan for one."""
    _, protection = _protection(call, client, key)
    applied = call("POST", f"{TEMPLATES}/pro/apply", json={"client_id": f"{client}-1"}).json()
    told = f"{protection} does not decide for {client}-1 (rule {applied[0]['id']}), whose own rule comes first"
    assert applied[0]["warnings"] == [told]
    rules = [{"client_id": f"{client}-{number}", "action": "allow"} for number in range(2, 5)]
    for dry_run in ("true", "false"):
        answer = call("POST", IMPORT, params={"dry_run": dry_run}, json={"rules": rules}).json()
        [told] = answer["warnings"]
        assert told.startswith(f"{protection} does not decide for {client}-2"), told
        assert told.endswith(", whose own rules come first")
    again = call("POST", IMPORT, json={"rules": rules}).json()
    assert "warnings" not in again


def test_what_a_post_replaces_without_being_told_is_named(call: Call, client: str) -> None:
    two = [{"rate": 1000, "window": 60}, {"rate": 50_000, "window": 86_400}]
    _put(call, client_id=client, limits=two, fail_mode="closed", description="contract 4711")
    assert _put(call, client_id=client, rate=2000, window=60)["warnings"] == [
        'fail_mode was not sent: "closed" became null',
        'description was not sent: "contract 4711" became ""',
        "limits[1].rate was not sent: 50000 became null",
        "limits[1].window was not sent: 86400 became null",
    ]
    assert "warnings" not in _put(call, client_id=client, rate=3000, window=60)


def test_explain_names_what_is_hidden_from_the_client(call: Call, client: str, key: str) -> None:
    number, _ = _protection(call, client, key)
    plan = _put(call, client_id=f"{client}-1")
    question = {"client_id": f"{client}-1", "limit_key": "global"}
    candidates = call("GET", "/v1/admin/explain", params=question).json()["candidates"]
    hidden = {candidate["rule_id"]: candidate["hidden_by"] for candidate in candidates}
    assert (hidden[plan["id"]], hidden[number], hidden["default"]) == (None, plan["id"], plan["id"])


@pytest.mark.parametrize("pattern", ["{}%*", "{}_*", "{}\\*", "*{}\\%_"])
def test_what_sql_and_patterns_take_for_signs_is_text_to_the_other(
    call: Call, client: str, key: str, pattern: str
) -> None:
    """A rule is looked for by LIKE, in which % and _ stand for anything."""
    pattern = pattern.format(client)
    protection = _put(call, client_id=pattern, endpoint=key)
    matching = pattern.replace("*", "x")
    plan = _put(call, client_id=matching)
    assert [f"rule {protection['id']} (" in told for told in plan["warnings"]] == [True]
    assert "warnings" not in _put(call, client_id=matching.replace("%", "-").replace("_", "-").replace("\\", "-"))
    renewed = _put(call, client_id=pattern, endpoint=key)
    assert [f"{matching} (rule {plan['id']})" in told for told in renewed["warnings"]] == [True]


def test_a_change_is_answered_where_the_database_fails_before_its_warnings_are_told(
    own_node: Node, postgres: Postgres
) -> None:
    limit = {"rate": 5, "window": 60}
    own_node.request("POST", RULES, json=limit | {"client_id": "*", "endpoint": "login"})
    with hidden_after_changes(postgres.url_of(__name__)) as show:
        for path, sent in (
            (RULES, limit | {"client_id": "ann"}),
            (f"{TEMPLATES}/pro/apply", {"client_id": "bob"}),
            (f"{RULES}/block", {"client_id": "b*"}),
        ):
            answer = own_node.request("POST", path, json=sent)
            assert answer.status_code in (200, 201), answer.text
            assert "warnings" not in answer.text
            show()
    assert own_node.log.read_text().count("warnings could not be computed") == 3
