"""Patterns: what one matches, and that the index finds the same rule as going through all of them does."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.rules.patterns import FEW, Glob
from app.rules.rule import Limit, Rule, default_rule
from app.rules.rule_book import RuleBook, Snapshot

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


@pytest.mark.parametrize("shape", ["{}_*", "*_{}", "*{}*", "acme_*_{}", "{}_*_eu", "acme*{}*eu", "a*{}*b*{}*c"])
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
    assert Glob(pattern).matches(text) == bool(re.fullmatch(as_expression(pattern), text))
