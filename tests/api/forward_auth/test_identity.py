"""Who asks behind a proxy: trusted proxies say it, nobody else does."""

from __future__ import annotations

import contextlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.api.auth import Principal
from app.api.forward_auth.identity import ClientIdentifier
from app.api.forward_auth.refusal_log import UNNAMED, LoggingClientIdentifier
from app.api.problems import Problem
from app.rules.api_key import ApiKey

PROXIES = "10.0.0.0/8, 2001:db8:ffff::/48"
KEY = Principal("ci (ab12cd34)", 1, frozenset({"check"}))
STORED = ApiKey(id="ef56gh78", tenant_id=1, name="new", digest=bytes(32), scopes=KEY.scopes, owner="ci (ab12cd34)")
BY_ADDRESS = ClientIdentifier(by="address", trusted=PROXIES)


@pytest.mark.parametrize(
    ("peer", "forwarded_for", "client"),
    [
        ("198.51.100.7", None, "ip:198.51.100.7"),
        ("10.0.0.1", "198.51.100.7", "ip:198.51.100.7"),
        ("10.0.0.1", "198.51.100.7, 10.0.0.2", "ip:198.51.100.7"),
        ("10.0.0.1", "203.0.113.9, 198.51.100.7, 10.0.0.2", "ip:198.51.100.7"),
        ("10.0.0.1", "not an address, 198.51.100.7", "ip:198.51.100.7"),
        ("10.0.0.1", "10.1.1.1,10.0.0.2", "ip:10.1.1.1"),
        ("10.0.0.1", "198.51.100.7:4711", "ip:198.51.100.7"),
        ("10.0.0.1", "[2001:db8:1:2:3::4]:4711", "ip:2001:db8:1:2::/64"),
        ("10.0.0.1", "2001:db8:1:2:ffff::1", "ip:2001:db8:1:2::/64"),
        ("10.0.0.1", "::ffff:198.51.100.7", "ip:198.51.100.7"),
        ("::ffff:10.0.0.1", "198.51.100.7", "ip:198.51.100.7"),
        ("2001:db8:ffff::1", "198.51.100.7, 2001:db8:ffff::2", "ip:198.51.100.7"),
    ],
)
def test_the_right_most_address_that_is_no_proxys_is_the_client(
    peer: str, forwarded_for: str | None, client: str
) -> None:
    headers = {} if forwarded_for is None else {"X-Forwarded-For": forwarded_for}
    assert BY_ADDRESS.client_id(peer, headers.get, None) == client


@pytest.mark.parametrize(
    ("peer", "headers", "status", "told"),
    [
        ("198.51.100.7", {"X-Forwarded-For": "203.0.113.9"}, 403, "198.51.100.7, which is not among TRUSTED_PROXIES"),
        ("10.0.0.1", {}, 400, "sent no X-Forwarded-For"),
        ("10.0.0.1", {"X-Forwarded-For": "198.51.100.7, unknown"}, 400, "has an invalid address"),
        ("10.0.0.1", {"X-Forwarded-For": "198.51.100.7,"}, 400, "has an invalid address"),
        ("10.0.0.1", {"X-Forwarded-For": "9" * 4096}, 400, "has an invalid address"),
        ("", {}, 400, "has an invalid address"),
    ],
)
def test_what_nobody_may_say_is_refused(peer: str, headers: dict[str, str], status: int, told: str) -> None:
    with pytest.raises(Problem, match=told) as refused:
        BY_ADDRESS.client_id(peer, headers.get, None)
    assert refused.value.status == status
    assert len(refused.value.detail) < 200


@given(st.lists(st.ip_addresses().map(str) | st.text(), max_size=5).map(",".join))
def test_what_the_client_says_himself_never_counts(spoofed: str) -> None:
    headers = {"X-Forwarded-For": f"{spoofed},198.51.100.7"}
    assert BY_ADDRESS.client_id("10.0.0.1", headers.get, None) == "ip:198.51.100.7"


def test_the_first_way_that_says_something_names_the_client() -> None:
    callers = ClientIdentifier(by="header:X-User, key,address", trusted=PROXIES)
    forwarded = {"X-Forwarded-For": "198.51.100.7"}
    assert callers.client_id("10.0.0.1", (forwarded | {"X-User": "ann"}).get, KEY) == "ann"
    assert callers.client_id("10.0.0.1", forwarded.get, KEY) == "key:ci (ab12cd34)"
    assert callers.client_id("10.0.0.1", (forwarded | {"X-User": ""}).get, None) == "ip:198.51.100.7"


def test_what_is_not_read_needs_no_trust() -> None:
    headers = {"X-Forwarded-For": "203.0.113.9", "X-User": "ann"}
    assert ClientIdentifier(by="key", trusted="").client_id("198.51.100.7", headers.get, KEY) == "key:ci (ab12cd34)"


def test_a_key_is_counted_by_its_owner() -> None:
    callers = ClientIdentifier(by="key", trusted="")
    for key, client in [
        (Principal(STORED.actor, 1, STORED.scopes, STORED), "key:ci (ab12cd34)"),
        (Principal("ci (ab12cd34)", 1, KEY.scopes, replace(STORED, owner=None)), "key:ci (ab12cd34)"),
        (Principal("bootstrap", 1, KEY.scopes), "key:bootstrap"),
    ]:
        assert callers.client_id("198.51.100.7", {}.get, key) == client


@pytest.mark.parametrize(
    ("peer", "headers", "status"),
    [
        ("198.51.100.7", {"X-User": "ann"}, 403),
        ("10.0.0.1", {"X-User": "ip:198.51.100.7"}, 400),
        ("10.0.0.1", {"X-User": "key:ci (ab12cd34)"}, 400),
        ("10.0.0.1", {}, 400),
    ],
)
def test_a_header_counts_only_from_a_proxy_and_only_as_itself(peer: str, headers: dict[str, str], status: int) -> None:
    with pytest.raises(Problem) as refused:
        ClientIdentifier(by="header:X-User,key", trusted=PROXIES).client_id(peer, headers.get, None)
    assert refused.value.status == status


def test_refusals_are_told_in_the_log_once_a_minute_each_kind(caplog: pytest.LogCaptureFixture) -> None:
    """403 names the setting; 400 shows nothing that a client may have sent."""
    caplog.set_level("WARNING", "app.api.forward_auth.refusal_log")
    seconds = [5.0]
    callers = LoggingClientIdentifier(by="address", trusted=PROXIES, clock=lambda: seconds[0])
    asked = [("198.51.100.7", "203.0.113.9"), ("10.0.0.1", "secret"), ("10.0.0.1", "203.0.113.9")]
    for now in (5.0, 64.0, 65.0):
        seconds[0] = now
        for peer, forwarded_for in asked:
            with contextlib.suppress(Problem):
                callers.client_id(peer, {"X-Forwarded-For": forwarded_for}.get, None)
    untrusted = "X-Forwarded-For comes from 198.51.100.7, which is not among TRUSTED_PROXIES"
    assert [record.args for record in caplog.records] == [(403, untrusted), (400, UNNAMED)] * 2
    assert {record.levelname for record in caplog.records} == {"WARNING"}


BY_GROUPS = ClientIdentifier(by="address", trusted=PROXIES, groups="org=X-Org, plan=X-Plan")


@pytest.mark.parametrize(
    ("headers", "groups"),
    [
        ({}, []),
        ({"X-Org": ""}, []),
        ({"X-Org": "7"}, ["org:7"]),
        ({"X-Plan": "free", "X-Org": "7,8"}, ["org:7,8", "plan:free"]),
        ({"X-Plan": "é".encode().decode("latin-1")}, ["plan:é"]),
    ],
)
def test_headers_of_a_trusted_proxy_name_groups(headers: dict[str, str], groups: list[str]) -> None:
    assert BY_GROUPS.groups("10.0.0.1", headers.get) == groups
    assert BY_ADDRESS.groups("10.0.0.1", headers.get) == []


def test_a_header_that_names_a_group_counts_from_trusted_proxies_only(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("WARNING", "app.api.forward_auth.refusal_log")
    logging = LoggingClientIdentifier(by="address", trusted=PROXIES, groups="org=X-Org", clock=lambda: 0.0)
    for headers in ({"X-Org": "7"}, {"X-Org": "7", "X-Forwarded-For": "10.0.0.1"}):
        with pytest.raises(Problem, match=r"X-Org comes from 198\.51\.100\.7, which is not among") as refused:
            logging.groups("198.51.100.7", headers.get)
        assert (refused.value.status, refused.value.kind) == (403, "untrusted-proxy")
    assert len(caplog.records) == 1
    assert logging.groups("198.51.100.7", {"X-Org": ""}.get) == []


def test_a_group_that_is_not_utf_8_is_refused() -> None:
    with pytest.raises(Problem) as refused:
        BY_GROUPS.groups("10.0.0.1", {"X-Org": "\xff"}.get)
    assert (refused.value.status, refused.value.errors) == (422, {"groups": ["X-Org is not UTF-8."]})
