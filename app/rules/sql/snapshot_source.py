"""Reads the rules and keys of all tenants from the tables as one snapshot."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sqlalchemy import Engine
from sqlalchemy.orm import Session

from app.rules.rule import Rule
from app.rules.rule_book import RulesetId, Snapshot
from app.rules.sql.repository import RuleRepository
from app.rules.sql.ruleset_version import RulesetVersions
from app.rules.sync.yielding import Pace, unpaced

RULES_AT_ONCE = 500  # rows per result, which is read without a switch


class SnapshotSource:
    """Reads snapshots, each in one repeatable-read transaction.

    Rules with unchanged rows are the same objects as in the last snapshot, and are not read again.
    """

    def __init__(self, engine: Engine, pace: Pace = unpaced) -> None:
        self._engine = engine.execution_options(isolation_level="REPEATABLE READ")
        self._pace = pace
        self._key_secret: bytes | None = None
        self._marks: dict[int, str] = {}  # by rule id: the marks of the rows that the rules were made from
        self._rules: dict[int, Rule] = {}

    def other_than(self, ruleset_id: RulesetId | None) -> Snapshot | None:
        """Return the current snapshot, or None if it is `ruleset_id`. Raises SQLAlchemy's errors."""
        with Session(self._engine) as session:
            ruleset_versions = RulesetVersions(session)
            current = ruleset_versions.current()
            if current == ruleset_id:
                return None
            if current.key_secret != self._key_secret:  # another database: its marks refer to other rows
                self._key_secret, self._marks, self._rules = current.key_secret, {}, {}
            return ruleset_versions.snapshot(self._read(ruleset_versions, RuleRepository(session)), self._pace)

    def _read(self, ruleset_versions: RulesetVersions, rules: RuleRepository) -> Iterable[Rule]:
        ids, changed = list[int](), dict[int, str]()
        for rule_id, mark in self._pace(ruleset_versions.marks()):
            ids.append(rule_id)
            if self._marks.get(rule_id) != mark:
                changed[rule_id] = mark
        missing = list(changed)
        parts = (missing[first : first + RULES_AT_ONCE] for first in range(0, len(missing), RULES_AT_ONCE))
        for rule in self._pace(rule for part in parts for rule in rules.of_ids(part)):
            self._rules[rule.id], self._marks[rule.id] = rule, changed[rule.id]
        self._forget_all_but(ids)
        return (self._rules[rule_id] for rule_id in self._pace(ids))

    def _forget_all_but(self, ids: Sequence[int]) -> None:
        if len(self._rules) == len(ids):  # no rule was deleted
            return
        kept = set(self._pace(ids))
        for rule_id in self._pace(list(self._rules)):
            if rule_id not in kept:
                del self._rules[rule_id], self._marks[rule_id]
