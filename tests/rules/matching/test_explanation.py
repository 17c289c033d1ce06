"""Explanations: every candidate, one winner, and a reason for each."""

from __future__ import annotations

from app.rules.matching.explanation import explain
from app.rules.rule import Limit, Rule, default_rule
from app.rules.rule_book import RuleBook, Snapshot


def rule(rule_id: int, client_id: str, endpoint: str | None = None, **fields: object) -> Rule:
    return Rule(id=rule_id, client_id=client_id, endpoint=endpoint, limits=(Limit(5, 60),), **fields)  # type: ignore[arg-type]


BOOK = RuleBook(
    Snapshot(
        1,
        b"",
        (
            rule(1, "*"),
            rule(2, "pro_*"),
            rule(3, "pro_*", "login"),
            rule(4, "pro_7"),
            rule(5, "pro_7", "export"),
            rule(6, "pro*", shadow=True),
            rule(7, "*", shadow=True),
            rule(8, "other"),
            rule(9, "pro_7", "login", tenant_id=2),
        ),
    ),
    default=default_rule(100, 60),
    algorithm="gcra",
)


def test_each_candidate_has_its_reason_and_one_wins() -> None:
    disabled = [rule(10, "pro_7", "login", enabled=False), rule(11, "another", enabled=False)]
    found = explain(BOOK, 1, "pro_7", "login", disabled=disabled)
    reasons = {candidate.rule.public_id: candidate.why for candidate in found}
    assert reasons == {
        4: "it names the client; it is for any endpoint",
        5: "it is for the endpoint export only",
        3: "rule 4 is more specific",
        2: "rule 4 is more specific",
        1: "rule 4 is more specific",
        6: "of the patterns with a rule for this endpoint it has the most literal characters, 3; "
        "it is for any endpoint; a shadow, so it is decided beside the enforced rule",
        7: "rule 6 is more specific",
        "default": "the default decides only where no stored rule matches",
        10: "it is disabled",
    }
    assert [candidate.rule.id for candidate in found if candidate.wins] == [4, 6]
    assert not next(candidate for candidate in found if candidate.rule.id == 10).rule.enabled


def test_patterns_and_the_default_say_why_they_win() -> None:
    def why(client_id: str, limit_key: str, book: RuleBook = BOOK) -> str:
        return next(each.why for each in explain(book, 1, client_id, limit_key) if each.wins)

    assert why("pro_8", "login").endswith("the most literal characters, 4; it is for the endpoint")
    assert why("x", "login").startswith("it is for every client, and none more specific")
    empty = RuleBook(Snapshot(1, b"", ()), default=default_rule(100, 60), algorithm="gcra")
    assert why("x", "login", empty) == "no stored rule matches"
