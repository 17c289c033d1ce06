"""Explanations: every candidate, one winner, and a reason for each."""

from __future__ import annotations

from app.rules.matching.explanation import deciding, explain, hidden
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


LAYERS = RuleBook(
    Snapshot(
        1,
        b"",
        (
            rule(1, "*", "login", layer="protection"),
            rule(2, "ann", layer="protection", shadow=True),
            rule(3, "", group="org:*", layer="org", shared=True),
            rule(4, "", group="org:big", layer="org"),
            rule(5, "bob", layer="org"),
            rule(6, "", group="plan:*"),
            rule(7, "*"),
            rule(8, "", "search", group="org:*", layer="org"),
            rule(9, "", group="*", layer="any"),
        ),
    ),
    default=default_rule(100, 60),
    algorithm="gcra",
)


def told(client_id: str, limit_key: str, *groups: str) -> dict[tuple[int, str | None], str]:
    """Reasons by rule and group; those that win begin with +."""
    found = explain(LAYERS, 1, client_id, limit_key, groups=groups)
    return {(each.rule.id, each.group): f"{'+ ' * each.wins}{each.why}" for each in found}


def test_each_layer_has_a_winner_with_its_reason() -> None:
    assert told("ann", "login", "org:7", "org:big", "plan:free") == {
        (6, "plan:free"): "+ of the patterns of the group plan:free it has the most literal characters, 5, and no rule "
        "that precedes groups is for this endpoint; it is for any endpoint",
        (7, None): "rule 6 is more specific",
        (9, "org:7"): "+ it is for every group, so for org:7, and no rule that precedes groups is for this endpoint; "
        "it is for any endpoint",
        (9, "org:big"): "the group org:7 comes first",
        (9, "plan:free"): "the group org:7 comes first",
        (3, "org:7"): "+ of the patterns of the group org:7 it has the most literal characters, 4, and no rule that "
        "precedes groups is for this endpoint; it is for any endpoint",
        (8, "org:7"): "it is for the endpoint search only",
        (4, "org:big"): "rule 3 is more specific",
        (3, "org:big"): "the group org:7 comes first",
        (8, "org:big"): "it is for the endpoint search only",
        (1, None): "+ it is for every client, and none more specific has a rule for this endpoint; it is for the "
        "endpoint",
        (2, None): "+ it names the client; it is for any endpoint; a shadow, so it is decided beside the enforced rule",
        (0, None): "the default decides only where no stored rule matches",
    }


def test_a_rule_of_the_client_precedes_groups_in_its_layer_only() -> None:
    found = told("bob", "x", "org:big")
    assert {place for place, why in found.items() if why.startswith("+")} == {(7, None), (9, "org:big"), (5, None)}
    assert found[4, "org:big"] == "rule 5 is more specific"


def test_a_rule_hides_others_of_its_layer_only() -> None:
    found = explain(LAYERS, 1, "bob", "login", groups=["org:big", "org:7"])
    hiders = {(each.rule.id, each.group): each.hidden_by.id for each in found if each.hidden_by is not None}
    # Rule 9 matches both groups, and is hidden in neither.
    of_org = {(4, "org:big"): 5, (3, "org:big"): 5, (8, "org:big"): 5, (3, "org:7"): 5, (8, "org:7"): 5}
    assert hiders == of_org | {(0, None): 7}
    assert hidden(LAYERS.candidates(1, "bob", ["org:big"])) == {0, 3, 4, 8}


def test_what_decides_for_a_client_without_groups_is_told_layer_by_layer() -> None:
    rules = [
        rule(1, "*", action="block", layer="abuse"),
        rule(2, "ann"),
        rule(3, "*"),
        rule(4, "", group="*", layer="abuse"),
        rule(5, "a*", layer="abuse", enabled=False),
    ]
    assert [each.id for each in deciding(rules, "ann")] == [1, 2]
