"""Which rule decides: precedence, patterns, tenants."""

from __future__ import annotations

from typing import Any

import pytest

from app.rules.rule import Limit, Rule, default_rule
from app.rules.rule_book import RuleBook, Snapshot
from app.rules.validation import InvalidRule


def book(*rules: Rule, algorithm: str = "token_bucket") -> RuleBook:
    return RuleBook(Snapshot(1, b"", rules), default=default_rule(100, 60), algorithm=algorithm)


def rule(rule_id: int, client_id: str, endpoint: str | None = None, **fields: object) -> Rule:
    return Rule(id=rule_id, client_id=client_id, endpoint=endpoint, limits=(Limit(5, 60),), **fields)  # type: ignore[arg-type]


PRECEDENCE = book(
    rule(1, "*"),
    rule(2, "*", "login"),
    rule(3, "premium_*"),
    rule(4, "premium_*", "login"),
    rule(5, "premium_gold_*"),
    rule(6, "premium_gold_1", "export"),
    rule(7, "*_gold_1"),
    rule(8, "premium_bronz*"),
    rule(9, "*remium_bronze"),
    rule(10, "basic", "login"),
    rule(11, "both"),
    rule(12, "both", "login"),
)


@pytest.mark.parametrize(
    ("client_id", "limit_key", "expected"),
    [
        ("anyone", "global", 1),
        ("anyone", "login", 2),
        ("premium_x", "global", 3),
        ("premium_x", "login", 4),
        ("premium_gold_2", "login", 5),  # the client pattern is decided first, then the endpoint within it
        ("premium_gold_1", "export", 6),
        ("premium_gold_1", "other", 5),  # the exact client has no rule for this key: 13 literal characters beat 7
        ("basic_gold_1", "x", 7),
        ("premium_bronze", "x", 9),  # equally long: alphabetical, and * comes before p
        ("basic", "login", 10),
        ("basic", "other", 1),
        ("both", "login", 12),
        ("both", "other", 11),
        ("*", "global", 1),
        ("premium_*", "global", 3),
    ],
)
def test_the_most_specific_rule_wins(client_id: str, limit_key: str, expected: int) -> None:
    assert PRECEDENCE.match(1, client_id, limit_key).id == expected


def test_where_nothing_matches_the_default_decides() -> None:
    matched = book(rule(1, "a", "login")).match(1, "a", "other")
    assert (matched.public_id, matched.limits[0].rate) == ("default", 100)


def test_tenants_do_not_see_each_others_rules() -> None:
    subject = book(rule(1, "a"), rule(2, "*", tenant_id=2))
    assert subject.match(1, "a", "x").id == 1
    assert subject.match(2, "a", "x").id == 2
    assert subject.match(3, "a", "x").public_id == "default"
    assert [subject.rule(tenant_id, 1) is not None for tenant_id in (1, 2)] == [True, False]


def test_disabled_rules_are_absent_and_shadows_stand_beside() -> None:
    subject = book(rule(1, "a", enabled=False), rule(2, "b", shadow=True), rule(3, "b*"))
    assert subject.match(1, "a", "x").public_id == "default"
    shadow = subject.match_shadow(1, "b", "x")
    assert shadow is not None
    assert (shadow.id, subject.match(1, "b", "x").id) == (2, 3)
    assert [candidate.rule.id for candidate in subject.candidates(1, "b")] == [3, 2, 0]


def test_a_limit_without_algorithm_takes_the_setting() -> None:
    subject = book(rule(1, "a"), Rule(id=2, client_id="b", limits=(Limit(100_001, 1),)), algorithm="sliding_window")
    assert subject.match(1, "a", "x").limits[0].algorithm == "sliding_window"
    assert subject.match(1, "b", "x").limits[0].algorithm == "sliding_window_counter"  # too many for an exact log


def test_a_rule_that_stayed_is_the_same_object_in_the_next_book() -> None:
    """So that what was computed from it stays good; also where its algorithm is the setting's."""
    stays, changes, pattern = rule(1, "a"), rule(2, "b"), rule(3, "c*")
    first = RuleBook(Snapshot(1, b"", (stays, changes, pattern)), default=default_rule(100, 60), algorithm="gcra")
    after = Snapshot(2, b"", (stays, rule(2, "b", version=2), pattern, rule(4, "d*")))
    second = RuleBook(after, default=default_rule(100, 60), algorithm="gcra", previous=first)
    for client_id in ("a", "c1", "nobody"):
        assert second.match(1, client_id, "x") is first.match(1, client_id, "x")
    assert (first.match(1, "b", "x").version, second.match(1, "b", "x").version) == (1, 2)
    assert (first.match(1, "d1", "x").id, second.match(1, "d1", "x").id) == (0, 4)


def test_patterns_that_went_are_gone_in_the_next_book() -> None:
    first = book(rule(1, "a*"), rule(2, "a"))
    second = RuleBook(
        Snapshot(2, b"", (rule(2, "a"),)), default=default_rule(100, 60), algorithm="gcra", previous=first
    )
    assert second.match(1, "ab", "x").public_id == "default"


@pytest.mark.parametrize(
    "unsound",
    [
        {"limits": ()},
        {"limits": (Limit(1, 1),) * 9},
        {"action": "allow", "limits": (Limit(1, 1),) * 9},
        {"action": "delay"},
        {"fail_mode": "ajar"},
        {"client_id": ""},
        {"client_id": "", "group": ""},
        {"group": "g"},
        {"layer": ""},
        {"layer": "Org"},
        {"endpoint": ""},
        {"limits": (Limit(0, 60),)},
        {"limits": (Limit(1, 0),)},
        {"limits": (Limit(1, 31_536_001),)},
        {"limits": (Limit(10**9 + 1, 1),)},
        {"limits": (Limit(10**9, 10),)},
        {"limits": (Limit(1, 60, burst=0),)},
        {"limits": (Limit(1, 10, burst=10**9),)},
        {"limits": (Limit(1, 60, "leaky_bucket"),)},
        {"limits": (Limit(100_001, 60, "sliding_window"),)},
    ],
    ids=str,
)
def test_a_book_takes_no_rule_that_cannot_be_decided_by(unsound: dict[str, Any]) -> None:
    fields: dict[str, Any] = {"id": 7, "client_id": "a", "limits": (Limit(5, 60),)}
    with pytest.raises(InvalidRule, match="rule 7 of tenant 1"):
        book(Rule(**fields | unsound))


def test_a_rule_that_counts_nothing_needs_no_limit() -> None:
    assert book(Rule(id=7, client_id="a", limits=(), action="block")).match(1, "a", "x").id == 7
