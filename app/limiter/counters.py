"""Reads and resets counters: for operators, never on the path of a check."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from msgspec.structs import replace

from app.limiter.compiled_rule import Charge, CompiledRule
from app.limiter.decision import Outcome
from app.limiter.errors import StoreError
from app.limiter.joint.matches import Owned, owned
from app.limiter.keys import NEW_CLIENTS, Keyspace, counter_names
from app.limiter.store import CounterStore
from app.rules.matching.layered_rules import Deciding
from app.rules.rule import Limit, Rule
from app.rules.rule_book import RuleBook

AT_ONCE = 1_000  # keys deleted in one round trip


@dataclass(frozen=True, slots=True)
class Reading:
    """The state of one limit of a rule for one owner of its counters.

    `reset_at`: Unix seconds at which nothing is consumed any more.
    """

    rule: Rule
    limit: Limit
    remaining: int
    reset_at: float


class Counters:
    """The counters of a tenant under the rules of one book."""

    def __init__(self, store: CounterStore, book: RuleBook, tenant_id: int) -> None:
        self._store = store
        self._book = book
        self._tenant_id = tenant_id
        self._keyspace = Keyspace(book.ruleset_id.key_secret)

    def met_by(self, client_id: str, rules: Iterable[Deciding]) -> list[Owned]:
        """Return the rules that count, each with the owner of the counters that the client's checks meet."""
        client = self._keyspace.client(self._tenant_id, client_id)
        return [owned(self._keyspace, self._tenant_id, client, each) for each in rules if counts(each.rule)]

    def own(self, client_id: str, groups: Sequence[str] | None, limit_key: str | None = None) -> list[Owned]:
        """Return the client's own counters: of all rules that may decide for it, or of those that decide one key.

        `groups` None: of the rules of every group.
        """
        if limit_key is None:
            rules: Sequence[Deciding] = self._book.candidates(self._tenant_id, client_id, groups or ())
        else:
            rules = self._book.deciding(self._tenant_id, client_id, limit_key, groups or ())
        if groups is None:
            for_key = (None, limit_key)
            of_groups = self._book.group_rules(self._tenant_id)
            rules = [*rules, *(Deciding(rule) for rule in of_groups if limit_key is None or rule.endpoint in for_key)]
        return self.met_by(client_id, _once(each for each in rules if not each.rule.shared))

    def of_group(self, group: str) -> list[Owned]:
        """Return the counters that all clients with this group share."""
        rules = self._book.candidates(self._tenant_id, NEW_CLIENTS, (group,))
        return self.met_by(NEW_CLIENTS, _once(each for each in rules if each.group is not None and each.rule.shared))

    def of_rule(self, rule: Rule) -> list[Owned]:
        """Return the counters that all clients of a shared client rule share."""
        return self.met_by(NEW_CLIENTS, [Deciding(rule)])

    def read(self, limits: Sequence[tuple[Owned, Limit]]) -> list[Reading]:
        """Return what is left of each limit, in one round trip that writes nothing. Raises StoreError."""
        charges = [
            Charge(CompiledRule(replace(rule, limits=(limit,))), owner, cost=0) for (rule, owner), limit in limits
        ]
        outcomes = self._store.check(charges) if charges else []
        return [_reading(rule, limit, outcome) for ((rule, _), limit), outcome in zip(limits, outcomes, strict=True)]

    def forget(self, counters: Iterable[Owned]) -> int:
        """Delete the counters; return the number of keys, existing or not. Raises StoreError."""
        keys = [owner + name for rule, owner in counters for name in counter_names(rule)]
        for first in range(0, len(keys), AT_ONCE):
            self._store.send([(b"UNLINK", key) for key in keys[first : first + AT_ONCE]], "reset")
        return len(keys)


def counts(rule: Rule) -> bool:
    """Whether the rule counts: one that allows or blocks outright may have limits, but has no counters."""
    return rule.action == "limit"


def limits_of(counters: Iterable[Owned]) -> list[tuple[Owned, Limit]]:
    """Return each limit of the rules, to be read."""
    return [(each, limit) for each in counters for limit in each.rule.limits]


def _once(rules: Iterable[Deciding]) -> list[Deciding]:
    """Return each rule once: one that matches several groups of a client has one counter of that client."""
    return list({each.rule.id: each for each in rules}.values())


def _reading(rule: Rule, limit: Limit, outcome: Outcome | StoreError) -> Reading:
    if isinstance(outcome, StoreError):
        raise outcome
    return Reading(rule, limit, outcome.remaining, (outcome.now_us + outcome.reset_after_us) / 1_000_000)
