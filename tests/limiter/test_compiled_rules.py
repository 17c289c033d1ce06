"""Plans from one rule book to the next: those of rules that stay are kept, without a pause that grows with them."""

from __future__ import annotations

import gc

from app.limiter.compiled_rule import Charge, Plan
from app.limiter.compiled_rules import Plans
from app.limiter.decision import Check
from app.limiter.redis.script_calls import packed_call
from app.rules.rule import Limit, Rule, default_rule
from app.rules.rule_book import RuleBook, Snapshot
from app.rules.yielding import at_once
from tests.support.steps import Steps

COUNT = 2_000
RULES = tuple(Rule(id=number, client_id=f"client {number}", limits=(Limit(5, 60),)) for number in range(1, COUNT + 1))


def book(version: int, rules: tuple[Rule, ...], previous: RuleBook | None = None) -> RuleBook:
    return RuleBook(
        Snapshot(version, b"secret", rules), default=default_rule(100, 60), algorithm="gcra", previous=previous
    )


def plan_of(plans: Plans, client_id: str) -> Plan:
    return plans.charge(1, Check(client_id)).plan


def all_used(plans: Plans) -> dict[str, Plan]:
    return {rule.client_id: plan_of(plans, rule.client_id) for rule in RULES}


def test_plans_of_rules_that_stay_are_kept_and_others_are_made_anew() -> None:
    first = book(1, RULES)
    plans = Plans(first)
    before = all_used(plans)
    edited = (Rule(id=1, client_id="client 1", limits=(Limit(6, 60),)), *RULES[1:-1])
    later = Plans(book(2, edited, first), plans)
    assert plan_of(later, "client 2") is before["client 2"]  # of a check that comes at once
    assert plan_of(later, "client 1").rule.limits[0].rate == 6
    later.take_over(at_once)
    assert plan_of(later, "client 3") is before["client 3"]
    assert plan_of(later, "client 1").rule.limits[0].rate == 6
    assert plan_of(later, f"client {COUNT}").rule.id == 0


def test_plans_outlive_books_that_follow_one_another_before_they_are_taken_over() -> None:
    books = [book(1, RULES)]
    plans = Plans(books[0])
    before = all_used(plans)
    for version in (2, 3):
        books.append(book(version, RULES[:-1], books[-1]))
        under_way, plans = plans, Plans(books[-1], plans)
        plan_of(plans, f"client {version}")
        assert plan_of(under_way, "client 5").rule is before["client 5"].rule
        under_way.take_over(at_once)  # too late: it has nothing any more
    plans.take_over(at_once)
    assert [client for client, plan in before.items() if plan_of(plans, client) is not plan] == [f"client {COUNT}"]


def test_a_new_book_keeps_checks_waiting_no_longer_where_there_are_more_plans() -> None:
    first = book(1, RULES)
    plans, steps = Plans(first), Steps()
    all_used(plans)
    second = book(2, RULES[:-1], first)
    with steps:
        later = Plans(second, plans)
        plan_of(later, "client 2")
        later.take_over(steps)
    assert steps.longest < COUNT / 10, steps.where


def test_the_garbage_collector_has_no_plan_to_look_at() -> None:
    """Of 100,000 it would look at each, and at all that they have: 80 ms at a time, in the middle of a check."""
    plan = Plan(Rule(id=1, client_id="a", limits=(Limit(5, 60, "gcra"), Limit(50, 600, "gcra"))))
    packed_call([Charge(plan, b"c" * 16, 1)])
    assert plan.alone
    gc.collect()  # finds out of tuples that they have only what is not tracked
    assert [part for part in (plan, plan.names, plan.keys, plan.alone, plan.rule) if gc.is_tracked(part)] == []
