"""Rules for networks, over HTTP: which clients they are for, what is refused, and that files keep them."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterator
from typing import Any

import psycopg2
import pytest
import requests

from devstack import Valkey
from tests.api.conftest import OtherTenant
from tests.support.node import Node, behind_proxy

RULES, IMPORT, EXPORT = "/v1/admin/rules", "/v1/admin/import", "/v1/admin/export"

Call = Callable[..., requests.Response]


@pytest.fixture(scope="module")
def call(node: Node, make_tenant: Callable[[], OtherTenant]) -> Call:
    """A request of a tenant that has no rules but those of this file."""
    key = make_tenant().key
    return lambda method, path, **kwargs: node.request(method, path, key=key, **kwargs)


@pytest.fixture(scope="module")
def ids(node: Node, call: Call) -> dict[str, int]:
    """By client."""
    limit = {"rate": 5, "window": 3600, "algorithm": "fixed_window"}
    clients = ("*", "ip:10.0.0.0/8", "ip:10.1.0.0/16", "ip:10.1.2.3", "ip:10.*", "ip:2001:db8::/32")
    stored = {client: call("POST", RULES, json={"client_id": client} | limit).json()["id"] for client in clients}
    node.await_rules()
    return stored


def _check(call: Call, client_id: str) -> dict[str, Any]:
    decision: dict[str, Any] = call("POST", "/v1/check", json={"client_id": client_id}).json()
    return decision


def test_a_network_decides_for_each_of_its_clients_apart(call: Call, ids: dict[str, int]) -> None:
    expected = {
        "ip:10.9.9.9": "ip:10.0.0.0/8",
        "ip:10.9.9.8": "ip:10.0.0.0/8",
        "ip:10.1.9.9": "ip:10.1.0.0/16",
        "ip:10.1.2.3": "ip:10.1.2.3",
        "ip:2001:db8:1:2::/64": "ip:2001:db8::/32",
        "ip:2001:DB8::7": "ip:2001:db8::/32",
        "ip:11.1.1.1": "*",
        "ip:10.x": "ip:10.*",
    }
    decisions = {client: _check(call, client) for client in expected}
    assert {client: decision["rule_id"] for client, decision in decisions.items()} == {
        client: ids[rule] for client, rule in expected.items()
    }
    assert {decision["remaining"] for decision in decisions.values()} == {4}


def test_explain_counters_and_reset_know_the_network_of_a_client(call: Call, ids: dict[str, int]) -> None:
    client = {"client_id": "ip:10.200.1.1"}
    _check(call, **client)
    candidates = call("GET", "/v1/admin/explain", params=client).json()["candidates"]
    order = [ids[rule] for rule in ("ip:10.0.0.0/8", "ip:10.*", "*")] + ["default"]
    assert [each["rule_id"] for each in candidates] == order
    assert candidates[0]["why"].startswith("of the client's networks with a rule for this endpoint it has the longest")
    counters = call("GET", "/v1/admin/counters", params=client).json()
    assert (counters[0]["client_id"], counters[0]["remaining"]) == ("ip:10.0.0.0/8", 4)
    assert call("POST", "/v1/admin/counters/reset", json=client).status_code == 204
    assert call("GET", "/v1/admin/counters", params=client).json()[0]["remaining"] == 5


def test_a_network_can_be_blocked_and_let_in_again(node: Node, call: Call) -> None:
    network, client = {"client_id": "ip:198.51.100.0/24"}, "ip:198.51.100.77"
    blocked = call("POST", f"{RULES}/block", json=network)
    assert blocked.status_code == 200, blocked.text
    node.await_rules()
    assert _check(call, client)["reason"] == "blocked_by_rule"
    assert call("POST", f"{RULES}/unblock", json={"client_id": client}).json()["warnings"] == [
        f"rule {blocked.json()['rules'][0]['id']} (ip:198.51.100.0/24, any endpoint, block) still blocks it"
    ]
    assert call("POST", f"{RULES}/unblock", json=network).json()["deleted"]
    node.await_rules()
    assert _check(call, client)["allowed"]


@pytest.mark.parametrize(
    "client_id", ["ip:10.0.0.1/8", "ip:10.0.0.0/33", "ip:2001:DB8::/32", "ip:300.0.0.0/8", "ip:a/b"]
)
def test_what_is_no_network_is_refused_wherever_it_is_sent(call: Call, ids: dict[str, int], client_id: str) -> None:
    rule = {"client_id": client_id, "rate": 1, "window": 1}
    path = f"{RULES}/{ids['ip:10.*']}"
    for answer in (
        call("POST", RULES, json=rule),
        call("PUT", path, json=rule),
        call("PATCH", path, json={"client_id": client_id}),
        call("POST", f"{RULES}/block", json={"client_id": client_id}),
        call("POST", "/v1/admin/templates/pro/apply", json={"client_id": client_id}),
    ):
        assert answer.status_code == 422, answer.url
        [message] = answer.json()["errors"]["client_id"]
        assert "ip:10.0.0.0/8" in message or "ip:2001:db8::/32" in message
    refused = call("POST", IMPORT, json={"rules": [rule]})
    assert (refused.status_code, list(refused.json()["errors"]["rules"]["0"])) == (422, ["client_id"])
    assert (
        call("POST", f"{RULES}/unblock", json={"client_id": client_id}).status_code == 200
    )  # older ones may be stored


@pytest.mark.parametrize("stored", ["ip:10.0.0.1/8", "ip:a/b", "a*b*c*d*e*f"])
def test_a_rule_that_older_releases_took_can_be_changed(call: Call, database_url: str, stored: str) -> None:
    """All of it but the client, which files of rules do not take."""
    rule = call("POST", RULES, json={"client_id": "older", "rate": 5, "window": 60}).json()
    path, other = f"{RULES}/{rule['id']}", "ip:10.0.0.2/8"
    with contextlib.closing(psycopg2.connect(database_url)) as connection, connection, connection.cursor() as cursor:
        cursor.execute("UPDATE rules SET client_id = %s WHERE id = %s", (stored, rule["id"]))
    sent = {"client_id": stored, "rate": 6, "window": 60}
    for method, change in (("PATCH", {"enabled": False}), ("PATCH", sent), ("PUT", sent)):
        answer = call(method, path, json=change)
        assert answer.status_code == 200, answer.text
        assert answer.json().items() >= ({"client_id": stored} | change).items()
        assert call(method, path, json=change | {"client_id": other}).json()["errors"].keys() == {"client_id"}
    assert call("PUT", path, json=call("GET", path).json()).status_code == 200
    refused = call("POST", IMPORT, data=call("GET", EXPORT).content, headers={"Content-Type": "application/json"})
    [errors] = refused.json()["errors"]["rules"].values()
    assert (refused.status_code, errors.keys()) == (422, {"client_id"})
    assert call("PATCH", path, json={"client_id": "ip:10.0.0.0/28"}).status_code == 200
    assert call("DELETE", path).status_code == 204


def test_a_prefix_that_no_client_of_a_proxy_lies_in_is_taken_with_a_warning(call: Call) -> None:
    stored = call("POST", RULES, json={"client_id": "ip:2001:db8:f::/96", "rate": 5, "window": 60})
    assert stored.status_code == 201
    assert any("forward authentication" in warning for warning in stored.json()["warnings"])
    assert _check(call, "ip:2001:db8:f::1")["rule_id"] == stored.json()["id"]


def test_an_answer_says_what_a_network_hides(call: Call) -> None:
    login = call("POST", RULES, json={"client_id": "ip:172.16.0.0/12", "endpoint": "login", "rate": 5, "window": 60})
    name = f"rule {login.json()['id']} (ip:172.16.0.0/12, login)"
    plan = call("POST", RULES, json={"client_id": "ip:172.20.0.0/16", "rate": 5, "window": 60}).json()
    assert plan["warnings"] == [
        f"{name} does not decide for ip:172.20.0.0/16 (rule {plan['id']}), whose own rule comes first"
    ]
    trial = call("DELETE", f"{RULES}/{plan['id']}", params={"dry_run": "true"}).json()
    assert trial["warnings"] == [f"{name} decides for ip:172.20.0.0/16 again"]


@pytest.mark.parametrize("kind", ["application/json", "application/yaml"])
def test_files_keep_networks(call: Call, ids: dict[str, int], kind: str) -> None:
    assert ids
    exported = call("GET", EXPORT, headers={"Accept": kind})
    again = call(
        "POST", IMPORT, params={"replace": "true"}, data=exported.content, headers={"Content-Type": kind}
    ).json()
    assert not again["created"] + again["replaced"] + again["deleted"]
    assert "ip:2001:db8::/32" in {each["client_id"] for each in again["unchanged"]}


@pytest.fixture(scope="module")
def proxied(valkey: Valkey, database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A node that takes this machine for its proxy, on the rules of the shared node."""
    data_dir = tmp_path_factory.mktemp("proxied")
    with behind_proxy(valkey.url, database_url, data_dir, AUTHORIZE_BY="address", WEB_CONCURRENCY=1) as node:
        yield node


def test_a_network_is_for_the_addresses_that_a_proxy_names(node: Node, proxied: Node) -> None:
    """IPv6 addresses are counted by their /64, and IPv4 addresses in IPv6 are themselves."""
    group = f"{random.getrandbits(16):x}"
    octet = random.randrange(256)
    networks = (f"ip:3fff:{group}::/32".replace(":0::", "::"), f"ip:198.18.{octet}.0/24")
    ids = [node.put_rule(client_id=network, action="block")["id"] for network in networks]
    proxied.await_rules(node)
    for address, rule_id in ((f"3fff:{group}:1:2:3::4", ids[0]), (f"::ffff:198.18.{octet}.7", ids[1])):
        answer = proxied.request("GET", "/v1/authorize", key=None, headers={"X-Forwarded-For": address})
        assert (answer.status_code, answer.json()["rule_id"]) == (429, rule_id), answer.text
    free = proxied.request("GET", "/v1/authorize", key=None, headers={"X-Forwarded-For": "3ffe::1"})
    assert free.status_code == 200
