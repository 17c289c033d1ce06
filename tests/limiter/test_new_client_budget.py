"""The budget of new clients decides which client has a counter of its own and which share one."""

from __future__ import annotations

from copy import copy

import pytest

from app.limiter.compiled_rules import CompiledRules
from app.limiter.decision import Check
from app.limiter.new_client_budget import KNOWN_MINUTES, NewClientBudget
from app.rules.rule import Limit, Rule, default_rule
from app.rules.rule_book import RuleBook, Snapshot
from tests.support.clock import Clock

MINUTE = 60.0


@pytest.fixture
def clock() -> Clock:
    return Clock(0.0)


def shared(new_client_budget: NewClientBudget, *clients: str, cost: int = 1) -> int:
    """How many of the clients were told to share a counter."""
    return sum(new_client_budget.judge(1, Check(client, cost=cost)).new_client for client in clients)


def ids(count: int, kind: str = "new") -> list[str]:
    return [f"{kind} {number}" for number in range(count)]


def test_the_budget_is_of_a_minute_and_those_within_it_stay_known(clock: Clock) -> None:
    new_client_budget = NewClientBudget(per_minute=10, workers=1, clock=clock)
    assert shared(new_client_budget, *ids(15)) == 5
    assert shared(new_client_budget, *ids(10)) == 0
    clock.now += MINUTE
    assert shared(new_client_budget, *ids(15)) == 0
    assert shared(new_client_budget, *ids(30, "other")) == 25


def test_who_asks_again_in_time_stays_known_through_a_flood(clock: Clock) -> None:
    new_client_budget = NewClientBudget(per_minute=100, workers=1, clock=clock)
    assert shared(new_client_budget, "victim") == 0
    for minute in range(1, 40):
        clock.now += MINUTE
        assert shared(new_client_budget, *ids(2000, f"flood {minute}")) == 1900
        if minute % (KNOWN_MINUTES - 1) == 0:
            assert shared(new_client_budget, "victim") == 0


def test_who_was_away_for_long_is_new_again(clock: Clock) -> None:
    new_client_budget = NewClientBudget(per_minute=1, workers=1, clock=clock)
    assert shared(new_client_budget, "away") == 0
    clock.now += KNOWN_MINUTES * MINUTE
    assert shared(new_client_budget, "another") == 0
    assert shared(new_client_budget, "away") == 1


def test_a_peek_spends_nothing_and_introduces_nobody_but_sees_what_a_check_would(clock: Clock) -> None:
    new_client_budget = NewClientBudget(per_minute=1, workers=1, clock=clock)
    assert shared(new_client_budget, *ids(3, "peek"), cost=0) == 0
    assert shared(new_client_budget, "first") == 0
    assert shared(new_client_budget, *ids(3, "peek"), cost=0) == 3


def test_workers_share_what_is_known_and_split_the_budget(clock: Clock) -> None:
    one = NewClientBudget(per_minute=10, workers=2, clock=clock)
    other = copy(one)  # as a fork does: the memory is the same, the rest is not
    assert shared(one, *ids(10)) == 5
    assert shared(other, *ids(5)) == 0
    assert shared(other, *ids(10, "other")) == 5


def test_a_tenant_is_not_known_for_another(clock: Clock) -> None:
    new_client_budget = NewClientBudget(per_minute=1, workers=1, clock=clock)
    assert not new_client_budget.judge(1, Check("a")).new_client
    assert new_client_budget.judge(2, Check("a")).new_client


def test_new_clients_share_one_counter_per_rule_but_those_a_rule_names_and_answers_kept_do_not() -> None:
    hour = (Limit(10, 3600),)
    rules = (Rule(id=7, client_id="named", limits=hour), Rule(id=8, client_id="glob*", limits=hour))
    book = RuleBook(Snapshot(1, b"secret", rules), default=default_rule(100, 60), algorithm="gcra")
    compiled_rules = CompiledRules(book)

    def charge(client: str, **fields: object) -> object:
        asked = compiled_rules.charge(1, Check(client, **fields))  # type: ignore[arg-type]
        return asked.client, asked.compiled.counter_names, asked.record and asked.record.name

    assert charge("a", new_client=True) == charge("b", new_client=True) != charge("a")
    assert charge("glob 1", new_client=True) == charge("glob 2", new_client=True) != charge("a", new_client=True)
    assert charge("named", new_client=True) == charge("named")
    assert charge("a", new_client=True, request_id="r") != charge("b", new_client=True, request_id="r")
