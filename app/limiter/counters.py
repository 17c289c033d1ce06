"""Reads and resets a client's counters: for operators, never on the path of a check."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from msgspec.structs import replace

from app.limiter.compiled_rule import Charge, CompiledRule
from app.limiter.decision import Outcome
from app.limiter.errors import StoreError
from app.limiter.keys import Keyspace, counter_names
from app.limiter.store import CounterStore
from app.rules.rule import Limit, Rule
from app.rules.rule_book import RuleBook


@dataclass(frozen=True, slots=True)
class Reading:
    """The state of one limit of a rule for one client.

    `reset_at`: Unix seconds at which nothing is consumed any more.
    """

    rule: Rule
    limit: Limit
    remaining: int
    reset_at: float


class Counters:
    """The counters of one client under the rules of one book."""

    def __init__(self, store: CounterStore, book: RuleBook, tenant_id: int, client_id: str) -> None:
        self._store = store
        self._client = Keyspace(book.ruleset_id.key_secret).client(tenant_id, client_id)

    def read(self, limits: Sequence[tuple[Rule, Limit]]) -> list[Reading]:
        """Return what is left of each limit, in one round trip that writes nothing. Raises StoreError."""
        charges = [Charge(CompiledRule(replace(rule, limits=(limit,))), self._client, cost=0) for rule, limit in limits]
        outcomes = self._store.check(charges) if charges else []
        return [_reading(rule, limit, outcome) for (rule, limit), outcome in zip(limits, outcomes, strict=True)]

    def forget(self, rules: Iterable[Rule]) -> int:
        """Delete the counters of the rules; return the number of keys, existing or not. Raises StoreError."""
        keys = [self._client + name for rule in counting(rules) for name in counter_names(rule)]
        if keys:
            self._store.send([(b"UNLINK", key) for key in keys], "reset")
        return len(keys)


def counting(rules: Iterable[Rule]) -> list[Rule]:
    """Return the rules that count: a rule that allows or blocks outright may have limits, but has no counters."""
    return [rule for rule in rules if rule.action == "limit"]


def _reading(rule: Rule, limit: Limit, outcome: Outcome | StoreError) -> Reading:
    if isinstance(outcome, StoreError):
        raise outcome
    return Reading(rule, limit, outcome.remaining, (outcome.now_us + outcome.reset_after_us) / 1_000_000)
