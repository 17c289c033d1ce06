"""Rules for groups, in layers and with shared counters, over HTTP; what decides by them is tested with the limiter."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.api.conftest import OtherTenant
from tests.api.raw_http import problem_of
from tests.support.node import Node

RULES = "/v1/admin/rules"
LIMIT = {"rate": 5, "window": 60}
SHOWN = ("client_id", "group", "layer", "shared")


class Tenant:
    """A tenant of this module."""

    def __init__(self, node: Node, key: str) -> None:
        self.node, self.key = node, key

    def request(self, method: str, path: str, **kwargs: Any) -> Any:
        return self.node.request(method, path, key=self.key, **kwargs)

    def put(self, status: int = 201, **rule: Any) -> dict[str, Any]:
        answer = self.request("POST", RULES, json=LIMIT | rule)
        assert answer.status_code == status, answer.text
        stored: dict[str, Any] = answer.json()
        return stored

    def ids(self, **filters: str) -> list[int]:
        return [rule["id"] for rule in self.request("GET", RULES, params=filters).json()]


@pytest.fixture(scope="module")
def tenant(node: Node, make_tenant: Callable[[], OtherTenant]) -> Tenant:
    return Tenant(node, make_tenant().key)


def test_layer_and_owner_tell_rules_apart_and_post_replaces_the_same(tenant: Tenant, client: str) -> None:
    plain = tenant.put(client_id=client)
    assert [plain[name] for name in SHOWN] == [client, None, "default", False]
    in_layer = tenant.put(client_id=client, layer="org", shared=True)
    of_group = tenant.put(group=client, layer="org", shared=True)
    assert [of_group[name] for name in SHOWN] == [None, client, "org", True]
    assert len({plain["id"], in_layer["id"], of_group["id"]}) == 3
    again = tenant.put(200, group=client, layer="org", shared=True, rate=6)
    assert (again["id"], again["version"], again["rate"]) == (of_group["id"], 2, 6)
    sent_back = tenant.request("PUT", f"{RULES}/{again['id']}", json=again).json()
    assert {name: sent_back[name] for name in SHOWN} == {name: again[name] for name in SHOWN}
    refused = tenant.request("PATCH", f"{RULES}/{plain['id']}", json={"layer": "org"})
    assert problem_of(refused, 409)["type"].endswith("rule-exists")


def test_a_patch_that_names_a_group_takes_the_rule_from_its_client(tenant: Tenant, client: str) -> None:
    rule = f"{RULES}/{tenant.put(client_id=client)['id']}"
    for sent, owner in (({"group": client}, [None, client]), ({"client_id": client}, [client, None])):
        changed = tenant.request("PATCH", rule, json=sent).json()
        assert [changed["client_id"], changed["group"]] == owner
    changes = tenant.request("GET", f"{rule}/versions").json()[0]["changes"]
    assert changes == {"client_id": {"from": None, "to": client}, "group": {"from": client, "to": None}}


@pytest.mark.parametrize(
    ("rule", "names"),
    [
        ({}, {"client_id"}),
        ({"client_id": None, "group": None}, {"client_id"}),
        ({"client_id": "a", "group": "b"}, {"group"}),
        ({"group": ""}, {"group"}),
        ({"group": "g" * 129}, {"group"}),
        ({"group": "a\nb"}, {"group"}),
        ({"group": "a*b*c*d*e*"}, {"group"}),
        ({"client_id": "a", "layer": ""}, {"layer"}),
        ({"client_id": "a", "layer": "l" * 33}, {"layer"}),
        ({"client_id": "a", "layer": "Org"}, {"layer"}),
        ({"client_id": "a", "layer": "org\n"}, {"layer"}),
        ({"client_id": "a", "layer": None}, {"layer"}),
        ({"client_id": "a", "shared": 1}, {"shared"}),
    ],
    ids=str,
)
def test_what_is_no_owner_and_no_layer_is_refused(tenant: Tenant, rule: dict[str, Any], names: set[str]) -> None:
    assert problem_of(tenant.request("POST", RULES, json=LIMIT | rule), 422)["errors"].keys() == names
    refused = problem_of(tenant.request("POST", "/v1/admin/import", json={"rules": [LIMIT | rule]}), 422)
    assert refused["errors"]["rules"]["0"].keys() == names


def test_lists_are_filtered_and_the_short_form_has_plain_layers_of_clients(tenant: Tenant, client: str) -> None:
    plain, in_layer, of_group = (
        tenant.put(**fields)["id"]
        for fields in ({"client_id": client}, {"client_id": client, "layer": f"l-{client[-8:]}"}, {"group": client})
    )
    shared = tenant.put(client_id=client, endpoint="login", shared=True)["id"]
    assert tenant.ids(client_id=client) == [plain, in_layer, shared]
    assert tenant.ids(client_id=client, layer="default") == [plain, shared]
    assert tenant.ids(layer=f"l-{client[-8:]}") == [in_layer]
    assert tenant.ids(group=client) == [of_group]
    assert tenant.ids(client_id=client, shared="true") == [shared]
    short = tenant.request("GET", "/rules").json()
    assert short[client] == LIMIT | {"endpoints": {"login": LIMIT}}


def test_a_file_has_what_is_not_the_default_and_takes_it_back(tenant: Tenant, client: str) -> None:
    made = [
        tenant.put(client_id=client),
        tenant.put(group=f"{client}*", layer="org", shared=True),
        tenant.put(client_id=client, layer="org", endpoint="login"),
    ]
    exported = tenant.request("GET", "/v1/admin/export").json()["rules"]
    assert exported[-3:] == [
        {"client_id": client, "endpoint": None} | LIMIT,
        {"group": f"{client}*", "layer": "org", "shared": True, "endpoint": None} | LIMIT,
        {"client_id": client, "layer": "org", "endpoint": "login"} | LIMIT,
    ]
    yaml = tenant.request("GET", "/v1/admin/export", headers={"Accept": "application/yaml"}).text
    kinds = {"data": yaml, "headers": {"Content-Type": "application/yaml"}}, {"json": {"rules": exported}}
    for sent in kinds:
        merge = tenant.request("POST", "/v1/admin/import?replace=true", **sent).json()
        assert [merge[name] for name in ("created", "replaced", "deleted")] == [[], [], []]
        assert {rule["id"] for rule in made} <= {rule["id"] for rule in merge["unchanged"]}
    twice = {"rules": [LIMIT | {"group": client}, LIMIT | {"group": client, "shared": True}]}
    refused = problem_of(tenant.request("POST", "/v1/admin/import", json=twice), 422)
    assert "those of rules[0]" in json.dumps(refused["errors"])


def test_layers_beyond_the_bound_are_refused_one_by_one_and_in_a_file(tenant: Tenant, client: str) -> None:
    many = [LIMIT | {"client_id": client, "layer": f"many-{number}"} for number in range(9)]
    refused = tenant.request("POST", "/v1/admin/import?replace=true", json={"rules": many})
    assert problem_of(refused, 409)["type"].endswith("too-many")
    eight = {"limits": [LIMIT | {"window": 60 + number} for number in range(8)]}
    both = [{"client_id": client, "layer": f"large-{number}"} | eight for number in range(2)]
    answer = tenant.request("POST", "/v1/admin/import?replace=true", json={"rules": both})
    assert answer.status_code == 200, answer.text
    refused = tenant.request("POST", RULES, json=LIMIT | {"group": client, "layer": "one-more"})
    assert "at most 16 limits together" in problem_of(refused, 409)["detail"]
    assert tenant.request("POST", "/v1/admin/import?replace=true", json={"rules": []}).status_code == 200


def test_an_unblocked_client_may_be_blocked_in_another_layer(tenant: Tenant, client: str) -> None:
    other = tenant.request("POST", RULES, json={"client_id": client, "layer": "abuse", "action": "block"}).json()
    blocked = tenant.request("POST", f"{RULES}/block", json={"client_id": client}).json()
    assert [(rule["layer"], rule["action"]) for rule in blocked["rules"]] == [("default", "block")]
    unblocked = tenant.request("POST", f"{RULES}/unblock", json={"client_id": client}).json()
    assert unblocked["deleted"] == [blocked["rules"][0]["id"]]
    assert unblocked["warnings"] == [f"rule {other['id']} ({client}, any endpoint, block) still blocks it"]
    assert tenant.request("DELETE", f"{RULES}/{other['id']}").status_code == 204


def test_a_template_is_applied_to_a_group_and_protection_has_its_own_layer(tenant: Tenant, client: str) -> None:
    apply = "/v1/admin/templates/{}/apply"
    [rule] = tenant.request("POST", apply.format("free"), json={"group": f"{client}*"}).json()
    assert [rule[name] for name in SHOWN] == [None, f"{client}*", "default", False]
    [login] = tenant.request("POST", apply.format("login-protection"), json={"client_id": client}).json()
    assert (login["layer"], login["endpoint"]) == ("protection", "login")
    for owner in ({}, {"client_id": "a", "group": "b"}):
        problem_of(tenant.request("POST", apply.format("free"), json=owner), 422)


def test_the_audit_of_a_group(tenant: Tenant, client: str) -> None:
    rule = tenant.put(group=client)
    tenant.request("DELETE", f"{RULES}/{rule['id']}")
    events = tenant.request("GET", "/v1/admin/audit", params={"group": client}).json()
    assert [event["action"] for event in events] == ["rule.delete", "rule.create"]
    assert (events[1]["after"]["client_id"], events[1]["after"]["group"]) == (None, client)
