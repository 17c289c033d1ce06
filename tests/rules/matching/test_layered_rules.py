"""One rule of each layer decides a check: the most specific that matches the client, a group, or everyone."""

from __future__ import annotations

import re
from collections.abc import Sequence
from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.rules.matching.glob import is_pattern
from app.rules.matching.networks import network_of
from app.rules.rule import DEFAULT_LAYER, MAX_GROUPS, Limit, Rule, default_rule
from app.rules.rule_book import RuleBook, Snapshot

LIMITS = (Limit(5, 60, "gcra"),)
KEYS = ("login", "export")


def book(*rules: Rule, previous: RuleBook | None = None) -> RuleBook:
    return RuleBook(Snapshot(1, b"", rules), default=default_rule(100, 60), algorithm="gcra", previous=previous)


def client(rule_id: int, pattern: str, endpoint: str | None = None, **fields: object) -> Rule:
    return Rule(id=rule_id, client_id=pattern, endpoint=endpoint, limits=LIMITS, **fields)  # type: ignore[arg-type]


def group(rule_id: int, pattern: str, endpoint: str | None = None, **fields: object) -> Rule:
    return Rule(id=rule_id, group=pattern, endpoint=endpoint, limits=LIMITS, **fields)  # type: ignore[arg-type]


def matched(subject: RuleBook, client_id: str, limit_key: str, *groups: str) -> list[tuple[int, str | None]]:
    return [(rule.id, by) for rule, by in subject.deciding(1, client_id, limit_key, groups)]


PRECEDENCE = book(
    client(1, "*"),
    client(2, "*", "login"),
    group(3, "org:*"),
    group(4, "org:7", "export"),
    group(5, "*", "any"),
    group(6, "plan:free"),
    client(7, "premium_*", "export"),
    client(8, "ip:10.0.0.0/8"),
    client(9, "exact", "export"),
    client(10, "premium_exact"),
    group(20, "org:*", layer="org"),
    group(21, "org:big", layer="org"),
    client(22, "exact", layer="org"),
    client(30, "*", "login", layer="protection"),
)


@pytest.mark.parametrize(
    ("client_id", "limit_key", "groups", "expected"),
    [
        ("x", "other", (), [(1, None)]),
        ("x", "login", (), [(2, None), (30, None)]),
        ("x", "login", ("org:1",), [(3, "org:1"), (20, "org:1"), (30, None)]),  # a group beats `*` of clients
        ("x", "export", ("org:7",), [(4, "org:7"), (20, "org:7")]),
        ("x", "other", ("org:7",), [(3, "org:7"), (20, "org:7")]),
        ("x", "other", ("plan:free", "org:7"), [(6, "plan:free"), (20, "org:7")]),  # groups in the order sent
        ("x", "other", ("org:7", "plan:free"), [(3, "org:7"), (20, "org:7")]),
        ("x", "any", ("team:1", "plan:free"), [(5, "team:1")]),  # `*` is a pattern of the first group
        ("x", "other", ("team:1", "plan:free"), [(6, "plan:free")]),
        ("x", "other", ("org:big",), [(3, "org:big"), (21, "org:big")]),
        ("premium_1", "export", ("org:7",), [(7, None), (20, "org:7")]),  # a client's glob beats every group
        ("premium_1", "other", ("org:7",), [(3, "org:7"), (20, "org:7")]),
        ("premium_exact", "export", ("org:7",), [(10, None), (20, "org:7")]),
        ("ip:10.1.1.1", "login", ("org:7",), [(8, None), (20, "org:7"), (30, None)]),
        ("exact", "export", ("org:7",), [(9, None), (22, None)]),
        ("exact", "login", ("org:big",), [(3, "org:big"), (22, None), (30, None)]),
    ],
)
def test_one_rule_of_every_layer_decides(
    client_id: str, limit_key: str, groups: tuple[str, ...], expected: list[tuple[int, str | None]]
) -> None:
    assert matched(PRECEDENCE, client_id, limit_key, *groups) == expected


def test_only_the_layer_default_falls_back_to_the_built_in_default() -> None:
    subject = book(client(1, "a", layer="org"), group(2, "g", shared=True), client(3, "b", tenant_id=2))
    assert matched(subject, "a", "x") == [(0, None), (1, None)]
    assert matched(subject, "b", "x", "g") == [(2, "g")]
    assert matched(subject, "b", "x", "other") == [(0, None)]
    assert [rule.id for rule, _ in subject.deciding(2, "b", "x", ("g",))] == [3]
    assert subject.layered == {1}


def test_a_group_is_never_a_network() -> None:
    subject = book(group(1, "ip:10.0.0.0/8"))
    assert matched(subject, "a", "x", "ip:10.1.1.1") == [(0, None)]
    assert matched(subject, "a", "x", "ip:10.0.0.0/8") == [(1, "ip:10.0.0.0/8")]


def test_shadows_stand_beside_the_rule_of_their_layer() -> None:
    subject = book(client(1, "a"), client(2, "a", shadow=True), group(3, "g", layer="org", shadow=True))
    assert matched(subject, "a", "x", "g") == [(1, None)]
    assert [(rule.id, by) for rule, by in subject.deciding_shadows(1, "a", "x", ("g",))] == [(2, None), (3, "g")]
    assert subject.has_shadows


def test_a_tenant_is_layered_only_by_enabled_rules_that_need_it() -> None:
    assert book(client(1, "a"), client(2, "*"), group(3, "g", enabled=False)).layered == set()
    assert book(client(1, "a", shared=True)).layered == {1}
    assert book(client(1, "a", layer="org", tenant_id=5)).layered == {5}


def test_candidates_are_in_order_layer_by_layer() -> None:
    found = PRECEDENCE.candidates(1, "premium_exact", ("plan:free", "org:big"))
    assert [rule.id for rule, _ in found] == [10, 7, 6, 5, 3, 5, 2, 1, 21, 20, 30, 0]
    assert found[2].group == "plan:free"


def test_the_next_book_reuses_what_stayed_and_forgets_what_went() -> None:
    first = book(group(1, "org:*"), group(2, "org:7", layer="org"), client(3, "c*", layer="org"))
    second = book(group(1, "org:*"), client(4, "c*", layer="org"), previous=first)
    assert matched(first, "c1", "x", "org:7") == [(1, "org:7"), (3, None)]
    assert matched(second, "c1", "x", "org:7") == [(1, "org:7"), (4, None)]
    assert matched(book(client(5, "c*"), previous=second), "c1", "x", "org:7") == [(5, None)]


def test_each_group_of_a_check_may_try_all_patterns_of_groups() -> None:
    plain = book(client(1, "a*b*c"), client(2, "b*")).tried(1)
    assert book(client(1, "a*b*c"), client(2, "b*"), group(3, "org:*", layer="org")).tried(1) == plain + MAX_GROUPS


def reference(rules: list[Rule], client_id: str, limit_key: str, groups: Sequence[str]) -> list[tuple[int, str | None]]:
    """The contract word by word: of each layer, the first rule in order of precedence that applies."""
    found: dict[str, tuple[tuple[object, ...], int, str | None]] = {}
    for rule in rules:
        for place, order in places(rule, client_id, groups):
            if rule.enabled and not rule.shadow and rule.endpoint in (None, limit_key):
                by = None if rule.group is None else groups[place]
                judged = ((*order, rule.endpoint is None), rule.id, by)
                found[rule.layer] = min(found.get(rule.layer, judged), judged, key=lambda each: each[0])
    decided = {DEFAULT_LAYER: (0, None)} | {layer: (rule_id, by) for layer, (_, rule_id, by) in found.items()}
    return [decided[layer] for layer in sorted(decided, key=lambda layer: (layer != DEFAULT_LAYER, layer))]


def places(rule: Rule, client_id: str, groups: Sequence[str]) -> list[tuple[int, tuple[object, ...]]]:
    """Where the rule applies: the index of the group, and its place in the order of precedence."""
    texts = [client_id] if rule.group is None else groups
    found = []
    for place, text in enumerate(texts):
        pattern, kind = rule.pattern, None
        if rule.group is None and pattern == "*":
            kind = (9,)
        elif pattern == text:
            kind = (0,)
        elif rule.group is None and (network := network_of(pattern)) and text.startswith("ip:") and "/" not in text:
            if ip_address(text[3:]) in ip_network(pattern[3:]):
                kind = (1, -network.prefix)
        elif "*" in pattern and re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), text):
            kind = (2 + (not is_pattern(pattern)), -len(pattern.replace("*", "")), pattern)
        if kind is not None:
            found.append((place, kind if rule.group is None else (5, place, *kind)))
    return found


TEXTS = st.text("ab", min_size=1, max_size=3) | st.sampled_from(["ip:10.1.1.1", "ip:10.2.1.1"])
PATTERNS = st.one_of(
    TEXTS, st.text("ab*", min_size=1, max_size=4), st.sampled_from(["ip:10.1.0.0/16", "ip:10.0.0.0/8", "*"])
)
WHO = st.tuples(st.sampled_from([DEFAULT_LAYER, "a", "org"]), st.booleans(), PATTERNS, st.sampled_from([None, *KEYS]))


@given(
    whos=st.lists(WHO, max_size=25, unique=True),
    checks=st.lists(st.tuples(TEXTS, st.lists(TEXTS, max_size=3, unique=True)), min_size=1, max_size=5),
    asleep=st.integers(0, 24),
)
def test_layers_decide_as_the_contract_says(
    whos: list[tuple[str, bool, str, str | None]], checks: list[tuple[str, list[str]]], asleep: int
) -> None:
    rules = [
        Rule(
            id=number,
            layer=layer,
            client_id="" if of_group else pattern,
            group=pattern if of_group else None,
            endpoint=endpoint,
            limits=LIMITS,
            enabled=number != asleep,
        )
        for number, (layer, of_group, pattern, endpoint) in enumerate(whos, start=1)
    ]
    subject = book(*rules)
    for client_id, groups in checks:
        for limit_key in (*KEYS, "other"):
            expected = reference(rules, client_id, limit_key, groups)
            assert matched(subject, client_id, limit_key, *groups) == expected
            candidates = [each.rule.id for each in subject.candidates(1, client_id, groups)]
            assert {rule_id for rule_id, _ in expected} <= set(candidates)
