"""Reads and writes rows, returns values. Every method runs in the caller's transaction."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

from sqlalchemy import ARRAY, Integer, any_, delete, func, literal, select, text, update
from sqlalchemy.orm import Session

from app.rules.models import LimitRow, RuleBookRow, RuleRow
from app.rules.rule import Limit, Rule
from app.rules.rule_book import Edition, Snapshot

CHANNEL = "rules"  # of the notifications that the rules have changed

# xmin is the transaction that wrote a row. The time tells two apart that have the same number after a restored backup.
_MARKS = text("""
    SELECT id, concat(rules.xmin, ' ', extract(epoch FROM updated_at), ' ', limits.written) AS mark
    FROM rules LEFT JOIN (
        SELECT rule_id, string_agg(rule_limits.xmin::text, ' ' ORDER BY position) AS written
        FROM rule_limits GROUP BY rule_id
    ) AS limits ON rule_id = id
    ORDER BY id
""")


class RuleRepository:
    """Rules of one database session."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def edition(self) -> Edition:
        """The version of all rules and of which database, one row read."""
        row = self._session.execute(select(RuleBookRow.version, RuleBookRow.key_secret)).one()
        return Edition(row.version, bytes.fromhex(row.key_secret))

    def snapshot(self, rules: Iterable[Rule]) -> Snapshot:
        """What a rule book is made of, given the rules. Only a repeatable-read transaction sees no change by half."""
        edition = self.edition()
        return Snapshot(edition.version, edition.key_secret, tuple(rules))

    def marks(self) -> Iterator[tuple[int, str]]:
        """The id of every rule, in order, and a mark that changes with its rows, also when they are changed by hand."""
        rows = self._session.execute(_MARKS, execution_options={"yield_per": 500})
        return ((rule_id, mark) for rule_id, mark in rows)

    def of_ids(self, ids: Sequence[int]) -> list[Rule]:
        """The rules with these ids. Reads columns, not objects: a tenth of the cost where there are thousands."""
        read = self._session.connection().execute
        chosen = any_(literal(list(ids), ARRAY(Integer)))
        limits: dict[int, list[Any]] = {rule_id: [] for rule_id in ids}
        for limit in read(select(LimitRow.__table__).where(LimitRow.rule_id == chosen).order_by(LimitRow.position)):
            limits[limit.rule_id].append(limit)
        return [_rule(row, limits[row.id]) for row in read(select(RuleRow.__table__).where(RuleRow.id == chosen))]

    def rules(self, tenant_id: int) -> list[Rule]:
        rows = self._session.execute(select(RuleRow).where(RuleRow.tenant_id == tenant_id).order_by(RuleRow.id))
        return [_rule(row) for row in rows.scalars()]

    def get(self, tenant_id: int, rule_id: int) -> Rule | None:
        row = self._session.execute(select(RuleRow).where(RuleRow.tenant_id == tenant_id, RuleRow.id == rule_id))
        found = row.scalar_one_or_none()
        return _rule(found) if found else None

    def twin(self, rule: Rule) -> Rule | None:
        """The stored rule of the same tenant, client and endpoint, shadow for shadow."""
        who = (RuleRow.tenant_id == rule.tenant_id, RuleRow.client_id == rule.client_id)
        what = (RuleRow.endpoint.is_not_distinct_from(rule.endpoint), RuleRow.shadow == rule.shadow)
        row = self._session.execute(select(RuleRow).where(*who, *what))
        found = row.scalar_one_or_none()
        return _rule(found) if found else None

    def add(self, rule: Rule) -> Rule:
        """Insert the rule; its id, version and times are the database's. Its counters are numbered from 1."""
        row = RuleRow(tenant_id=rule.tenant_id, client_id=rule.client_id, endpoint=rule.endpoint, next_counter=1)
        self._session.add(row)
        return self._stored(row, rule, kept=())

    def replace(self, current: Rule, rule: Rule) -> Rule:
        """Overwrite `current` with `rule`. A limit of unchanged algorithm and window keeps its counter."""
        row = self._session.get_one(RuleRow, current.id)
        row.version += 1
        row.updated_at = func.clock_timestamp()
        return self._stored(row, rule, kept=current.limits)

    def delete(self, rule_id: int) -> None:
        self._session.execute(delete(RuleRow).where(RuleRow.id == rule_id))

    def bump_version(self) -> int:
        """The next version. Holds the row until commit, so that changes happen in the order of their versions.

        Whoever listens hears of it at the commit.
        """
        self._session.execute(text(f"NOTIFY {CHANNEL}"))
        bump = update(RuleBookRow).values(version=RuleBookRow.version + 1).returning(RuleBookRow.version)
        return self._session.execute(bump).scalar_one()

    def claim_examples(self) -> bool:
        """True for exactly one caller ever: the one that is to load the example rules."""
        claim = update(RuleBookRow).where(~RuleBookRow.examples_loaded).values(examples_loaded=True)
        return self._session.execute(claim.returning(RuleBookRow.id)).scalar_one_or_none() is not None

    def _stored(self, row: RuleRow, rule: Rule, *, kept: Sequence[Limit]) -> Rule:
        row.action, row.fail_mode, row.description = rule.action, rule.fail_mode, rule.description
        row.shadow, row.enabled = rule.shadow, rule.enabled
        numbered = _numbered(rule.limits, kept, row.next_counter)
        row.next_counter = max([row.next_counter, *(limit.counter + 1 for limit in numbered)])
        row.limits = [_limit_row(position, limit) for position, limit in enumerate(numbered)]
        self._session.flush()
        self._session.refresh(row)
        return _rule(row)


def _numbered(limits: Sequence[Limit], kept: Sequence[Limit], next_counter: int) -> list[Limit]:
    """The limits with their counters: that of the kept limit it equals, else of one with its algorithm and window, else
    a new one."""
    free = list(kept)
    counters: dict[int, int] = {}
    for same in (_all_of, _what_counts):
        for place, limit in enumerate(limits):
            old = next((old for old in free if same(old) == same(limit)), None)
            if place not in counters and old is not None:
                counters[place] = old.counter
                free.remove(old)
    for place in range(len(limits)):
        if place not in counters:
            counters[place], next_counter = next_counter, next_counter + 1
    return [replace(limit, counter=counters[place]) for place, limit in enumerate(limits)]


def _all_of(limit: Limit) -> Limit:
    return replace(limit, counter=0)


def _what_counts(limit: Limit) -> tuple[str | None, int]:
    return limit.algorithm, limit.window


def _limit_row(position: int, limit: Limit) -> LimitRow:
    return LimitRow(
        position=position,
        rate=limit.rate,
        window_seconds=limit.window,
        algorithm=limit.algorithm,
        burst=limit.burst,
        counter=limit.counter,
    )


# Thousands of rules have the same few limits: each is one object.
_limit = lru_cache(maxsize=4096)(Limit)


def _rule(row: Any, limits: Sequence[Any] | None = None) -> Rule:
    """The rule of a RuleRow, or of the columns of one and of its limits."""
    return Rule(
        id=row.id,
        tenant_id=row.tenant_id,
        client_id=row.client_id,
        endpoint=row.endpoint,
        limits=tuple(
            _limit(limit.rate, limit.window_seconds, limit.algorithm, limit.burst, limit.counter)
            for limit in (row.limits if limits is None else limits)
        ),
        action=row.action,
        fail_mode=row.fail_mode,
        shadow=row.shadow,
        enabled=row.enabled,
        description=row.description,
        version=row.version,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )
