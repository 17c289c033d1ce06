"""Checks that one Redis admits together or not at all."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from app.limiter.compiled_rule import Charge
from app.limiter.decision import Check, Outcome
from app.limiter.errors import RequestIdConflict, TooMuchTogether, Unavailable
from app.limiter.joint.joint_rule import owned_parts
from app.limiter.redis.store import RedisStore, connect
from app.rules.rule import Limit, Rule
from tests.support.layered import limiter, rule

CLIENTS = rule(7, "*", limits=(Limit(5, 3600, "sliding_window"),))
ORG = rule(20, group="org:*", layer="org", shared=True, limits=(Limit(8, 3600, "fixed_window"),))


class Together:
    """A limiter whose checks are decided together, and the clients of one org."""

    def __init__(self, store: RedisStore, *rules: Rule, **parts: Any) -> None:
        self._store = store
        self.limiter, _ = limiter(store, *(rules or (CLIENTS, ORG)), **parts)
        self.org = f"org:{uuid4().hex}"

    def __call__(self, *asked: tuple[str, int], **fields: Any) -> list[Any]:
        checks = [Check(client, cost=cost, **{"groups": (self.org,)} | fields) for client, cost in asked]
        return self.limiter.check_together([(1, check) for check in checks])

    def left(self, client: str) -> tuple[int, ...]:
        """In the counter of the client, and in that of its org."""
        charge = self.limiter.current_rules().charge(1, Check(client, groups=(self.org,)))
        peeks = [Charge(part, owner, 0) for part, owner in owned_parts(charge)]
        return tuple(outcome.remaining for outcome in self._store.check(peeks) if isinstance(outcome, Outcome))


def allowed(answers: list[Any]) -> list[bool]:
    return [answer.allowed for answer in answers]


def test_all_are_charged_or_none(store: RedisStore) -> None:
    together = Together(store)
    assert allowed(together(("a", 2), ("b", 3))) == [True, True]
    assert (together.left("a"), together.left("b")) == ((3, 5), (2, 5))  # the org once, by the greater cost
    answers = together(("a", 3), ("b", 3), ("c", 6))
    assert [(answer.allowed, answer.compiled.rule.id, answer.outcome.remaining) for answer in answers] == [
        (True, 7, 3),
        (False, 7, 2),
        (False, 7, 5),
    ]
    assert answers[2].reason == "cost_exceeds_limit"
    assert (together.left("a"), together.left("b"), together.left("c")) == ((3, 5), (2, 5), (5, 5))


def test_answers_are_those_after_all_charges(store: RedisStore) -> None:
    together = Together(store)
    answers = together(("a", 1), ("b", 5), ("a", 4), ("a", 0))
    assert [(answer.compiled.rule.id, answer.outcome.remaining) for answer in answers] == [
        (7, 1),
        (7, 0),
        (7, 1),
        (7, 1),
    ]


def test_a_repeated_request_id_is_answered_again(store: RedisStore) -> None:
    together = Together(store)
    first = together(("a", 2), request_id="id")
    assert [answer.outcome for answer in together(("a", 2), request_id="id")] == [first[0].outcome]
    assert together.left("a") == (3, 6)
    conflict, other = together(("a", 3), ("b", 3), request_id="id")
    assert isinstance(conflict, RequestIdConflict)
    assert (other.allowed, together.left("b")) == (True, (5, 6))
    assert allowed(together(("b", 3), ("a", 2), request_id="id")) == [True, True]
    assert (together.left("a"), together.left("b")) == ((3, 3), (2, 3))


def test_rules_that_count_nothing(store: RedisStore) -> None:
    free, blocked = rule(8, "free", action="allow", limits=()), rule(9, "bad", action="block", limits=())
    together = Together(store, CLIENTS, free, blocked)
    assert allowed(together(("free", 1), ("a", 1))) == [True, True]
    assert allowed(together(("free", 1))) == [True]
    assert allowed(together(("bad", 1), ("a", 1), ("free", 1))) == [False, True, True]
    assert together.left("a")[0] == 4


def test_a_remembered_denial_keeps_the_others_from_being_charged(store: RedisStore) -> None:
    together = Together(store, clock=lambda: 1000.0)  # it stands still
    assert allowed(together(("a", 5))) == [True]
    assert allowed(together(("a", 1), ("b", 1))) == [False, True]
    again = together(("a", 1), ("b", 1))
    assert (allowed(again), again[0].repeats > 0) == ([False, True], True)
    assert together.left("b") == (5, 3)
    assert allowed(together(*[(client, 3) for client in "cd"])) == [True, True]
    assert allowed(together(("e", 1), ("c", 0))) == [False, True]  # the org is full
    full, peek = together(("f", 1), ("c", 0))
    assert (full.allowed, full.compiled.rule.id, peek.allowed) == (False, 20, True)


def test_a_shadow_rule_stands_beside(store: RedisStore) -> None:
    together = Together(store, CLIENTS, rule(8, "*", shadow=True, limits=(Limit(1, 3600, "gcra"),)))
    assert [answer.reason for answer in together(("a", 1), ("b", 1))] == ["within_limit"] * 2
    assert [answer.reason for answer in together(("a", 1), ("c", 1))] == ["shadow", "within_limit"]


def test_what_would_occupy_redis_is_refused(store: RedisStore) -> None:
    dear = rule(7, "*", limits=tuple(Limit(5, 60 + n, "sliding_window", counter=n) for n in range(8)))
    together = Together(store, dear)
    with pytest.raises(TooMuchTogether, match="fewer"):
        together(*[(f"{n}", 1) for n in range(31)])
    assert allowed(together(*[(f"{n}", 1) for n in range(30)])) == [True] * 30


def test_without_redis_each_check_is_decided_by_its_rules(tmp_path: Path) -> None:
    nowhere = RedisStore(connect(f"unix://{tmp_path}/nobody.sock", timeout_ms=50, clock=time.monotonic))
    closed = rule(8, "closed", limits=(Limit(5, 60, "gcra"),), fail_mode="closed")
    opened, refused = Together(nowhere, CLIENTS, ORG, closed)(("a", 1), ("closed", 1))
    assert (opened.allowed, opened.degraded, opened.compiled.rule.id) == (True, True, 7)
    assert isinstance(refused, Unavailable)


def test_each_check_counts_once_by_its_own_answer(store: RedisStore) -> None:
    together = Together(store)
    [first] = together(("a", 5))
    counts = first.compiled.counts  # of all rules: none of them is stored
    before = list(counts.memory[counts.at : counts.at + 2])
    assert allowed(together(("a", 1), ("b", 1), ("c", 4), ("c", 0))) == [False, True, False, True]
    assert list(counts.memory[counts.at : counts.at + 2]) == [before[0] + 1, before[1] + 2]
