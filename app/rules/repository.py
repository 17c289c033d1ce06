"""Reads and writes rows, returns values. Every method runs in the caller's transaction."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

from sqlalchemy import Row, Select, func, select, text, update
from sqlalchemy.orm import Session

from app.rules.api_key import ApiKey
from app.rules.bulk import delete_rows, insert_rows, table_of, update_rows
from app.rules.models import ApiKeyRow, LimitRow, RuleBookRow, RuleRow
from app.rules.pages import slice_of, total_of
from app.rules.rule import Limit, Rule
from app.rules.rule_book import Edition, Snapshot

# Read as plain rows: a snapshot has thousands, and objects of the ORM would cost ten times as much.
RULES, LIMITS = table_of(RuleRow), table_of(LimitRow)
WHO = (RuleRow.tenant_id, RuleRow.client_id, RuleRow.endpoint, RuleRow.shadow)
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
        self._free: dict[int, int] = {}  # of the rules read: the first number of a counter that was never used

    def edition(self) -> Edition:
        """The version of all rules and of which database, one row read."""
        row = self._session.execute(select(RuleBookRow.version, RuleBookRow.key_secret)).one()
        return Edition(row.version, bytes.fromhex(row.key_secret))

    def snapshot(self, rules: Iterable[Rule]) -> Snapshot:
        """What a rule book is made of, given the rules. Only a repeatable-read transaction sees no change by half."""
        book = self._session.execute(select(RuleBookRow)).scalar_one()
        return Snapshot(
            book.version,
            bytes.fromhex(book.key_secret),
            tuple(rules),
            keys=self._keys(),
            key_hash_secret=bytes.fromhex(book.key_hash_secret),
        )

    def marks(self) -> Iterator[tuple[int, str]]:
        """The id of every rule, in order, and a mark that changes with its rows, also when they are changed by hand."""
        rows = self._session.execute(_MARKS, execution_options={"yield_per": 500})
        return ((rule_id, mark) for rule_id, mark in rows)

    def of_ids(self, ids: Sequence[int]) -> list[Rule]:
        """The rules with these ids."""
        return self._read(select(RULES).where(RULES.c.id == func.any(list(ids))))

    def rules(self, tenant_id: int, **wanted: Any) -> list[Rule]:
        """The tenant's rules, oldest first; `wanted` gives fields they must have."""
        return self._read(_of(tenant_id, wanted))

    def page(self, tenant_id: int, wanted: dict[str, Any], offset: int, count: int) -> tuple[list[Rule], int]:
        """A page of them, and how many there are in all."""
        found = _of(tenant_id, wanted)
        return self._read(slice_of(found.order_by(RULES.c.id), offset, count)), total_of(self._session, found)

    def count(self, tenant_id: int) -> int:
        return total_of(self._session, _of(tenant_id, {}))

    def get(self, tenant_id: int, rule_id: int) -> Rule | None:
        found = self._read(_of(tenant_id, {"id": rule_id}))
        return found[0] if found else None

    def twin(self, rule: Rule) -> Rule | None:
        """The stored rule of the same tenant, client and endpoint, shadow for shadow."""
        who = {"client_id": rule.client_id, "endpoint": rule.endpoint, "shadow": rule.shadow}
        found = self.rules(rule.tenant_id, **who)
        return found[0] if found else None

    def add(self, rules: Sequence[Rule]) -> list[Rule]:
        """Insert rules of different clients or endpoints. Their counters are numbered from 1."""
        numbered = {_who(rule): replace(rule, limits=tuple(_numbered(rule.limits, (), 1))) for rule in rules}
        returning = (RuleRow.id, RuleRow.version, RuleRow.created_at, RuleRow.updated_at, *WHO)
        for row in insert_rows(
            self._session, RuleRow, (_columns(rule, first_counter=1) for rule in list(numbered.values())), returning
        ):
            rule_id, version, created, updated, *who = row
            rule = numbered[tuple(who)]
            numbered[tuple(who)] = replace(rule, id=rule_id, version=version, created_at=created, updated_at=updated)
        self._insert_limits(list(numbered.values()))
        return list(numbered.values())

    def replace(self, pairs: Sequence[tuple[Rule, Rule]]) -> list[Rule]:
        """Overwrite the first of each pair, read in this transaction, with the second.

        Limits of unchanged algorithm and window keep their counters.
        """
        stored = {current.id: _successor(current, rule, self._free[current.id]) for current, rule in pairs}
        rows = (
            _columns(rule, first_counter=self._free[rule.id]) | {"id": rule.id, "version": rule.version}
            for rule in list(stored.values())
        )
        returning = (RULES.c.id, RULES.c.updated_at)
        times = update_rows(self._session, RuleRow, rows, returning, updated_at=func.clock_timestamp())
        for rule_id, updated_at in times:
            stored[rule_id] = replace(stored[rule_id], updated_at=updated_at)
        relimited = [current.id for current, _ in pairs if current.limits != stored[current.id].limits]
        delete_rows(self._session, LimitRow.rule_id, relimited)
        self._insert_limits([stored[rule_id] for rule_id in relimited])
        return list(stored.values())

    def delete(self, rules: Sequence[Rule]) -> None:
        delete_rows(self._session, RuleRow.id, [rule.id for rule in rules])

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

    def _read(self, wanted: Select[Any]) -> list[Rule]:
        rows = self._session.execute(wanted.order_by(RULES.c.id)).all()
        self._free |= {row.id: row.next_counter for row in rows}
        limits: dict[int, list[Limit]] = {}
        mine = LIMITS.c.rule_id == func.any([row.id for row in rows])
        for row in self._session.execute(select(LIMITS).where(mine).order_by(LIMITS.c.rule_id, LIMITS.c.position)):
            limit = _limit(row.rate, row.window_seconds, row.algorithm, row.burst, row.counter)
            limits.setdefault(row.rule_id, []).append(limit)
        return [_rule(row, tuple(limits.get(row.id, ()))) for row in rows]

    def _keys(self) -> tuple[ApiKey, ...]:
        in_force = select(ApiKeyRow).where(ApiKeyRow.revoked_at.is_(None)).order_by(ApiKeyRow.id)
        return tuple(_key(row) for row in self._session.execute(in_force).scalars())

    def _insert_limits(self, rules: Sequence[Rule]) -> None:
        rows = (_limit_columns(rule, place, limit) for rule in rules for place, limit in enumerate(rule.limits))
        insert_rows(self._session, LimitRow, rows)


def _who(rule: Rule) -> tuple[Any, ...]:
    return rule.tenant_id, rule.client_id, rule.endpoint, rule.shadow


def _of(tenant_id: int, wanted: dict[str, Any]) -> Select[Any]:
    fields = [RULES.c[name] == value for name, value in wanted.items()]  # None becomes IS NULL
    return select(RULES).where(RULES.c.tenant_id == tenant_id, *fields)


def _columns(rule: Rule, *, first_counter: int) -> dict[str, Any]:
    return {
        "tenant_id": rule.tenant_id,
        "client_id": rule.client_id,
        "endpoint": rule.endpoint,
        "action": rule.action,
        "fail_mode": rule.fail_mode,
        "shadow": rule.shadow,
        "enabled": rule.enabled,
        "description": rule.description,
        "next_counter": max([first_counter, *(limit.counter + 1 for limit in rule.limits)]),
    }


def _successor(current: Rule, rule: Rule, next_counter: int) -> Rule:
    """`rule` as the next version of `current`."""
    return replace(
        rule,
        id=current.id,
        version=current.version + 1,
        created_at=current.created_at,
        limits=tuple(_numbered(rule.limits, current.limits, next_counter)),
    )


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


def _limit_columns(rule: Rule, place: int, limit: Limit) -> dict[str, Any]:
    return {
        "rule_id": rule.id,
        "position": place,
        "rate": limit.rate,
        "window_seconds": limit.window,
        "algorithm": limit.algorithm,
        "burst": limit.burst,
        "counter": limit.counter,
    }


def _key(row: ApiKeyRow) -> ApiKey:
    return ApiKey(
        id=row.id,
        tenant_id=row.tenant_id,
        name=row.name,
        digest=row.digest,
        scopes=frozenset(row.scopes),
        expires_at=row.expires_at.timestamp() if row.expires_at else None,
    )


# Thousands of rules have the same few limits: each is one object.
_limit = lru_cache(maxsize=4096)(Limit)


def _rule(row: Row[Any], limits: tuple[Limit, ...]) -> Rule:
    return Rule(
        id=row.id,
        tenant_id=row.tenant_id,
        client_id=row.client_id,
        endpoint=row.endpoint,
        limits=limits,
        action=row.action,
        fail_mode=row.fail_mode,
        shadow=row.shadow,
        enabled=row.enabled,
        description=row.description,
        version=row.version,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )
