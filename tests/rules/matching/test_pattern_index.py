"""Patterns: what one matches, and that the index finds the same rule as going through all of them does."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.rules.errors import Conflict
from app.rules.matching import pattern_index as patterns_module
from app.rules.matching.glob import Coverage, Glob, RepetitiveGlob, glob_of, is_pattern, is_repetitive
from app.rules.matching.pattern_bounds import MAX_PATTERNS, MAX_REPETITIVE, MAX_TRIED, Pattern, require_matchable
from app.rules.matching.pattern_index import FEW, MATCH_BYTES, Matches, PatternIndex
from app.rules.rule import MAX_GROUPS, Limit, Rule, default_rule
from app.rules.rule_book import RuleBook, Snapshot
from app.rules.sync.yielding import unpaced

LIMITS = (Limit(5, 60, "gcra"),)
TENANTS = (1, 2)
KEYS = ("login", "export")


def as_expression(pattern: str) -> str:
    return ".*".join(re.escape(part) for part in pattern.split("*"))


def reference(rules: list[Rule], tenant_id: int, client_id: str, limit_key: str, *, shadow: bool) -> int | None:
    """The contract word by word: go through all rules in their order, take the first that applies."""

    def order(rule: Rule) -> tuple[object, ...]:
        kind = 2 if rule.client_id == "*" else 1 if "*" in rule.client_id else 0
        return kind, -len(rule.client_id.replace("*", "")), rule.client_id, rule.endpoint is None

    for rule in sorted(rules, key=order):
        same_client = rule.client_id == client_id or (
            "*" in rule.client_id and re.fullmatch(as_expression(rule.client_id), client_id)
        )
        applies = rule.tenant_id == tenant_id and rule.enabled and rule.shadow == shadow
        if applies and same_client and rule.endpoint in (None, limit_key):
            return rule.id
    return None


CLIENTS = st.text("abc", min_size=1, max_size=12)
PATTERNS = st.one_of(
    CLIENTS,
    st.text("abc*", min_size=1, max_size=8),
    CLIENTS.map(lambda text: f"{text}*"),
    CLIENTS.map(lambda text: f"*{text}"),
    CLIENTS.map(lambda text: f"*{text}*"),
    CLIENTS.map(lambda text: f"a*{text}*a"),  # many with both ends in common
)


@st.composite
def rule_sets(draw: st.DrawFn) -> list[Rule]:
    who = st.tuples(st.sampled_from(TENANTS), PATTERNS, st.sampled_from((None, *KEYS)), st.booleans())
    unique = draw(st.lists(who, max_size=FEW * 6, unique=True))
    return [
        Rule(
            id=number,
            tenant_id=tenant_id,
            client_id=client_id,
            endpoint=endpoint,
            shadow=shadow,
            limits=LIMITS,
            enabled=draw(st.integers(0, 9)) > 0,
        )
        for number, (tenant_id, client_id, endpoint, shadow) in enumerate(unique, start=1)
    ]


@given(rules=rule_sets(), clients=st.lists(CLIENTS, min_size=1, max_size=8))
def test_the_index_finds_what_going_through_all_rules_finds(rules: list[Rule], clients: list[str]) -> None:
    book = RuleBook(Snapshot(1, b"", tuple(rules)), default=default_rule(100, 60), algorithm="gcra")
    for client_id in clients:
        for tenant_id in TENANTS:
            for limit_key in (*KEYS, "other"):
                expected = reference(rules, tenant_id, client_id, limit_key, shadow=False)
                assert book.match(tenant_id, client_id, limit_key).id == (expected or 0)
                shadow = book.match_shadow(tenant_id, client_id, limit_key)
                assert (shadow and shadow.id) == reference(rules, tenant_id, client_id, limit_key, shadow=True)


@pytest.mark.parametrize(
    "shape", ["{}_*", "*_{}", "*{}*", "acme_*_{}", "{}_*_eu", "acme*{}*eu", "a*{}*b*{}*c", "a*same text*{}*c"]
)
def test_among_thousands_of_one_shape_the_right_one_is_found(shape: str) -> None:
    """Hypothesis draws dozens of patterns; the pieces that tell thousands apart show only here."""
    patterns = [shape.format(f"{number:04}", f"{number:04}") for number in range(2000)]
    rules = tuple(Rule(id=number, client_id=text, limits=LIMITS) for number, text in enumerate(patterns, start=1))
    book = RuleBook(Snapshot(1, b"", rules), default=default_rule(100, 60), algorithm="gcra")
    for number, text in enumerate(patterns, start=1):
        assert book.match(1, text.replace("*", "-"), "any").id == number
    assert book.match(1, shape.format("none", "none").replace("*", "-"), "any").public_id == "default"


@given(pattern=st.text("ab*", min_size=1, max_size=12).filter(lambda p: "*" in p), text=st.text("ab", max_size=12))
def test_globs_match_as_the_equal_regular_expression_does(pattern: str, text: str) -> None:
    for kind in (Glob, RepetitiveGlob):
        assert kind(pattern).matches(text) == bool(re.fullmatch(as_expression(pattern), text))


class Counted(dict[str, Rule]):
    """The rules of a pattern, none: so every pattern that is tried is looked up here, and none ends a search."""

    looked_up = 0

    def get(self, *_: object) -> None:  # type: ignore[override]
        Counted.looked_up += 1


@given(
    patterns=st.sets(PATTERNS.filter(is_pattern), max_size=40),
    clients=st.lists(st.text("abc", min_size=1, max_size=30), min_size=1, max_size=5),
    few=st.integers(1, 8),
)
def test_no_client_takes_more_tries_than_the_index_says(patterns: set[str], clients: list[str], few: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(patterns_module, "FEW", few)
        index = PatternIndex({pattern: Coverage(Counted(), None) for pattern in patterns}, unpaced)
    tried = index.most_tried()
    assert len(tried) == len(set(tried))
    for client_id in clients:
        Counted.looked_up = 0
        assert index.match(client_id, "any") is None
        assert Counted.looked_up <= len(tried)


@pytest.mark.parametrize(
    ("pattern", "repetitive"),
    [
        ("aaaaaaaa*", False),  # heads and tails are compared once
        ("*aaaaaaaa", False),
        ("premium_*", False),
        ("*00*", False),
        ("*banana*", False),
        ("*000*", True),
        ("*x*ababab*", True),
        ("*x*ab-ab-ab*", False),
        ("*x*ab-ab-ab-*", True),
        (f"*{'a' * 30}b{'a' * 30}*", True),
        (f"*b{'a' * 30}*", False),  # nothing but the beginning is compared again and again
    ],
)
def test_a_text_that_repeats_itself_is_known(pattern: str, repetitive: bool) -> None:
    assert is_repetitive(pattern) is repetitive
    assert isinstance(glob_of(pattern), RepetitiveGlob) is repetitive


def refusal(patterns: set[str], *new: str) -> str:
    """Why these patterns are refused beside the others; empty where they are not."""
    try:
        require_matchable({Pattern(text) for text in patterns | {*new}}, {Pattern(text) for text in new}, unpaced)
    except Conflict as conflict:
        return str(conflict)
    return ""


def test_a_tenant_has_so_many_patterns_at_most() -> None:
    patterns = {f"group_{number}_*" for number in range(MAX_PATTERNS - 1)}
    assert refusal(patterns, "one more*") == ""
    assert "at most 2000 patterns" in refusal(patterns, "one more*", "and one*")


def test_patterns_of_every_sensible_shape_may_be_as_many() -> None:
    for shape in ("{}_*", "*@corp{}.example", "acme_*_{}", "org{}:*:eu", "*-team{}-*", "*:org{}:*:eu-*", "a/*/b{}/*"):
        patterns = {shape.format(number) for number in range(MAX_PATTERNS - 1)}
        assert refusal(patterns, shape.format("new")) == "", shape


def test_the_patterns_that_one_resembles_are_named() -> None:
    patterns = {f"{number}_*" for number in range(100)}
    alike = {"a" * first + "*" + "b" * last for first in range(1, 21) for last in range(1, 16)}
    assert len(alike) == MAX_TRIED
    told = refusal(patterns | alike, "a" * 21 + "*bbb")
    assert f"the pattern {'a' * 21}*bbb resembles too many others, such as {'a' * 20}*bbb" in told
    assert "301 patterns would have to be tried; at most 300" in told
    assert refusal(patterns | alike, "something else*") == ""


def test_so_many_patterns_may_repeat_themselves() -> None:
    patterns = {f"{number}*{'ab' * 3}{number}*" for number in range(MAX_REPETITIVE)}
    assert refusal(patterns, "group_*") == ""
    assert f"at most {MAX_REPETITIVE} such" in refusal(patterns, "x*aaa*")


def test_more_than_four_stars_are_refused_when_they_are_new() -> None:
    assert refusal(set(), "a*b*c*d*e", "a**b***c****d*****") == ""
    assert "more than 4 *" in refusal(set(), "a*b*c*d*e*")
    assert refusal({"a*b*c*d*e*"}, "x*") == ""  # stored by an earlier version


def test_patterns_of_all_layers_count_together() -> None:
    """Each of a check's groups may match, so a pattern of groups counts as often as a check may have groups."""
    alike = ["a" * (1 + number) + "*" for number in range(20)]
    stored = {Pattern(text, layer) for text in alike for layer in ("one", "two")}
    stored |= {Pattern(text, "one", True) for text in alike}
    room = (MAX_TRIED - 2 * 20 - MAX_GROUPS * 20) // MAX_GROUPS
    fitting = {Pattern("b" * (1 + number) + "*", "two", True) for number in range(room)}
    require_matchable(stored | fitting, fitting, unpaced)
    for new in (Pattern("b" * 99 + "*", "two", True), Pattern("a" * 99 + "*", "one", True)):
        with pytest.raises(Conflict, match=f"{new.text[:-1]}. resembles too many others"):
            require_matchable(stored | fitting | {new}, {new}, unpaced)
    with pytest.raises(Conflict, match="at most 2000 patterns"):
        require_matchable({Pattern(f"{n}-*", str(n % 9), n % 2 == 0) for n in range(MAX_PATTERNS + 1)}, (), unpaced)


def test_what_is_remembered_of_matches_is_bounded_and_right() -> None:
    patterns = {f"*x{number}y*": Coverage({}, rule) for number, rule in enumerate(numbered(300))}
    index, other = PatternIndex(patterns, unpaced), PatternIndex({}, unpaced)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(patterns_module, "MATCHES_BYTES", 20 * (MATCH_BYTES + 4 * 200 + 3))
        matches = Matches()
        for _ in range(3):
            for number in range(300):
                client_id = f"x{number}y".ljust(200, "\U0001f600")
                found = matches.match(index, client_id, "any")
                assert found is not None
                assert (found.id, matches.match(other, client_id, "any")) == (number, None)
                assert len(matches._found) <= 21


def numbered(count: int) -> list[Rule]:
    return [Rule(id=number, client_id="x", limits=LIMITS) for number in range(count)]
