"""Keys: short, unambiguous, telling nothing."""

from __future__ import annotations

import tracemalloc
from fnmatch import fnmatchcase
from hashlib import blake2b

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.limiter import keys
from app.limiter.keys import CLIENT_LENGTH, FORMATS, HEALTH, KNOWN_BYTES, Keyspace, counter_names, meaning, public_part
from app.rules.rule import ALGORITHMS, Limit, Rule

PRINTABLE = st.characters(exclude_categories=["C", "Z"], include_characters=" ")
CLIENTS = st.text(PRINTABLE, min_size=1, max_size=256)


def test_every_algorithm_has_a_format_letter_of_its_own() -> None:
    assert set(FORMATS) == set(ALGORITHMS)
    assert len(set(FORMATS.values())) == len(FORMATS)


def test_a_key_is_about_30_bytes_and_one_slot_holds_all_keys_of_a_client() -> None:
    rule = Rule(id=12, client_id="*", limits=(Limit(1, 1, "gcra", counter=1), Limit(1, 1, "fixed_window", counter=2)))
    client = Keyspace(b"secret").client(1, "user_123")
    assert len(client) == CLIENT_LENGTH
    assert counter_names(rule) == (b":12:1G", b":12:2F")
    assert (client[:4], client[-1:]) == (b"rl:{", b"}")
    assert b"user_123" not in client


@given(a=CLIENTS, b=CLIENTS, tenant=st.integers(1, 99), other=st.integers(1, 99))
def test_two_clients_never_share_a_key(a: str, b: str, tenant: int, other: int) -> None:
    keyspace = Keyspace(b"secret")
    same = (a, tenant) == (b, other)
    assert (keyspace.client(tenant, a) == keyspace.client(other, b)) == same
    assert keyspace.client(tenant, a) != Keyspace(b"another").client(tenant, a)
    assert keyspace.client(tenant, a).count(b"{") == keyspace.client(tenant, a).count(b"}") == 1


@given(client=CLIENTS, tenant=st.integers(1, 2**31 - 1), other=st.integers(1, 2**31 - 1))
def test_all_keys_of_a_tenant_are_found_and_no_others(client: str, tenant: int, other: int) -> None:
    ours, theirs = Keyspace(b"secret"), Keyspace(b"that of another deployment")
    pattern = ours.of_tenant(tenant).decode()
    assert fnmatchcase((ours.client(tenant, client) + b":12:1G").decode(), pattern)
    assert fnmatchcase((ours.client(other, client) + b":12:1G").decode(), pattern) == (tenant == other)
    for not_ours in (HEALTH + b":0:1F", ours.denials(tenant, 5), theirs.client(tenant, client) + b":12:1G"):
        assert not fnmatchcase(not_ours.decode(), pattern)
    assert ours.denials(tenant, 5) != theirs.denials(tenant, 5)


@given(client=CLIENTS, tenant=st.integers(1, 2**31 - 1))
def test_a_client_is_found_again_by_what_leases_tell_of_it(client: str, tenant: int) -> None:
    keyspace = Keyspace(b"secret")
    key = keyspace.client(tenant, client)
    assert keyspace.named(tenant, public_part(key)) == key
    assert keyspace.named(tenant + 1, public_part(key)) != key


@pytest.mark.parametrize(
    ("character", "length"), [("x", 8), ("x", 64), ("x", 256), ("é", 256), ("🦊", 64), ("🦊", 256)]
)
def test_what_is_remembered_of_clients_is_bounded_in_bytes(
    monkeypatch: pytest.MonkeyPatch, character: str, length: int
) -> None:
    """Here in fewer bytes, which are soon full. The clients asked about would take twice as many at least."""
    bound = KNOWN_BYTES // 8
    monkeypatch.setattr(keys, "KNOWN_BYTES", bound)
    keyspace = Keyspace(b"secret")
    tracemalloc.start()
    try:
        for number in range(2 * bound // (100 + length)):
            keyspace.client(number % 3, f"{number:08}".ljust(length, character))
        assert bound / 8 < tracemalloc.get_traced_memory()[1] < bound
    finally:
        tracemalloc.stop()


def test_a_shared_counter_lies_with_its_group_or_its_rule_and_with_no_client() -> None:
    keyspace = Keyspace(b"secret")
    limits = (Limit(1, 1, "gcra"),)
    ours, theirs = Rule(id=1, group="org:*", limits=limits), Rule(id=2, group="org:7", limits=limits)
    client_rule = Rule(id=7, client_id="a", limits=limits)
    assert keyspace.shared(1, ours, "org:7") == keyspace.shared(1, theirs, "org:7")
    others = [
        keyspace.shared(1, ours, "org:8"),
        keyspace.shared(2, ours, "org:7"),
        keyspace.shared(1, client_rule, None),
        keyspace.client(1, "a"),
        keyspace.client(1, "org:7"),
        keyspace.client(1, "7"),
    ]
    assert len({keyspace.shared(1, ours, "org:7"), *others}) == 7
    assert {len(prefix) for prefix in others} == {CLIENT_LENGTH}


def test_a_check_means_its_key_cost_and_groups_in_order() -> None:
    assert meaning("login", 5) == blake2b(b"5:login", digest_size=8).hexdigest().encode()  # as the release before
    kinds = [
        ("k", 1, ()),
        ("k", 2, ()),
        ("k", 1, ("a", "b")),
        ("k", 1, ("b", "a")),
        ("k", 1, ("a,b",)),
        ("k", 1, ("ab",)),
    ]
    assert len({meaning(*kind) for kind in kinds}) == len(kinds)
