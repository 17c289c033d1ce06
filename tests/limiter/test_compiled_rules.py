"""Compiled rules from one rule book to the next: those of unchanged rules are kept, without a pause that grows."""

from __future__ import annotations

import gc

from app.limiter.compiled_rule import Charge, CompiledRule
from app.limiter.compiled_rules import CompiledRules
from app.limiter.decision import Check
from app.limiter.redis.script_calls import packed_call
from app.rules.rule import Limit, Rule, default_rule
from app.rules.rule_book import RuleBook, Snapshot
from app.rules.sync.yielding import unpaced
from tests.support.steps import Steps

COUNT = 2_000
RULES = tuple(Rule(id=number, client_id=f"client {number}", limits=(Limit(5, 60),)) for number in range(1, COUNT + 1))


def book(version: int, rules: tuple[Rule, ...], previous: RuleBook | None = None) -> RuleBook:
    return RuleBook(
        Snapshot(version, b"secret", rules), default=default_rule(100, 60), algorithm="gcra", previous=previous
    )


def compiled_for(compiled_rules: CompiledRules, client_id: str) -> CompiledRule:
    return compiled_rules.charge(1, Check(client_id)).compiled


def all_used(compiled_rules: CompiledRules) -> dict[str, CompiledRule]:
    return {rule.client_id: compiled_for(compiled_rules, rule.client_id) for rule in RULES}


def test_compiled_rules_of_rules_that_stay_are_kept_and_others_are_made_anew() -> None:
    first = book(1, RULES)
    compiled_rules = CompiledRules(first)
    before = all_used(compiled_rules)
    edited = (Rule(id=1, client_id="client 1", limits=(Limit(6, 60),)), *RULES[1:-1])
    later = CompiledRules(book(2, edited, first), compiled_rules)
    assert compiled_for(later, "client 2") is before["client 2"]  # of a check that comes at once
    assert compiled_for(later, "client 1").rule.limits[0].rate == 6
    later.take_over(unpaced)
    assert compiled_for(later, "client 3") is before["client 3"]
    assert compiled_for(later, "client 1").rule.limits[0].rate == 6
    assert compiled_for(later, f"client {COUNT}").rule.id == 0


def test_compiled_rules_outlive_books_that_follow_one_another_before_they_are_taken_over() -> None:
    books = [book(1, RULES)]
    compiled_rules = CompiledRules(books[0])
    before = all_used(compiled_rules)
    for version in (2, 3):
        books.append(book(version, RULES[:-1], books[-1]))
        under_way, compiled_rules = compiled_rules, CompiledRules(books[-1], compiled_rules)
        compiled_for(compiled_rules, f"client {version}")
        assert compiled_for(under_way, "client 5").rule is before["client 5"].rule
        under_way.take_over(unpaced)  # too late: it has nothing any more
    compiled_rules.take_over(unpaced)
    assert [client for client, compiled in before.items() if compiled_for(compiled_rules, client) is not compiled] == [
        f"client {COUNT}"
    ]


def test_a_new_book_keeps_checks_waiting_no_longer_where_there_are_more_compiled_rules() -> None:
    first = book(1, RULES)
    compiled_rules, steps = CompiledRules(first), Steps()
    all_used(compiled_rules)
    second = book(2, RULES[:-1], first)
    with steps:
        later = CompiledRules(second, compiled_rules)
        compiled_for(later, "client 2")
        later.take_over(steps)
    assert steps.longest < COUNT / 10, steps.where


def test_the_garbage_collector_has_no_compiled_rule_to_look_at() -> None:
    """Of 100,000 it would look at each, and at all that they have: 80 ms at a time, in the middle of a check."""
    compiled = CompiledRule(Rule(id=1, client_id="a", limits=(Limit(5, 60, "gcra"), Limit(50, 600, "gcra"))))
    packed_call([Charge(compiled, b"c" * 16, 1)])
    assert compiled.single_call
    gc.collect()  # finds out of tuples that they have only what is not tracked
    assert [
        part
        for part in (compiled, compiled.counter_names, compiled.packed_keys, compiled.single_call, compiled.rule)
        if gc.is_tracked(part)
    ] == []
