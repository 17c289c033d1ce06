"""Reads and writes rows, returns values. Every method runs in the caller's transaction."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy import Select, bindparam, delete, func, insert, select, update
from sqlalchemy.orm import Session

from app.rules.api_key import ApiKey
from app.rules.models import ApiKeyRow, LimitRow, RuleBookRow, RuleRow
from app.rules.pages import page_of, total_of
from app.rules.rule import Limit, Rule
from app.rules.rule_book import Edition, Snapshot

T = TypeVar("T")

CHUNK = 500  # rows in one statement: other greenlets have their turn between two of them


class RuleRepository:
    """Rules of one database session."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def edition(self) -> Edition:
        """The version of all rules and of which database, one row read."""
        row = self._session.execute(select(RuleBookRow.version, RuleBookRow.key_secret)).one()
        return Edition(row.version, bytes.fromhex(row.key_secret))

    def snapshot(self) -> Snapshot:
        """Everything a rule book is made of. Only a repeatable-read transaction sees no change by half."""
        book = self._session.execute(select(RuleBookRow)).scalar_one()
        return Snapshot(
            book.version,
            bytes.fromhex(book.key_secret),
            tuple(self._read(select(RuleRow))),
            keys=self._keys(),
            key_hash_secret=bytes.fromhex(book.key_hash_secret),
        )

    def rules(self, tenant_id: int, **wanted: Any) -> list[Rule]:
        """The tenant's rules, oldest first; `wanted` gives fields they must have."""
        return self._read(_of(tenant_id, wanted))

    def page(self, tenant_id: int, wanted: dict[str, Any], offset: int, count: int) -> tuple[list[Rule], int]:
        """A page of them, and how many there are in all."""
        rows, total = page_of(self._session, _of(tenant_id, wanted).order_by(RuleRow.id), offset, count)
        return [_rule(row) for row in rows], total

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
        """Insert the rules; ids, versions and times are the database's. Their counters are numbered from 1."""
        returned = insert(RuleRow).returning(
            RuleRow.id, RuleRow.version, RuleRow.created_at, RuleRow.updated_at, sort_by_parameter_order=True
        )
        stored = []
        for chunk in _chunks(rules):
            numbered = [replace(rule, limits=tuple(_numbered(rule.limits, (), 1))) for rule in chunk]
            rows = self._session.execute(returned, [_columns(rule, first_counter=1) for rule in numbered])
            for rule, (rule_id, version, created, updated) in zip(numbered, rows, strict=True):
                stored.append(replace(rule, id=rule_id, version=version, created_at=created, updated_at=updated))
        self._insert_limits(stored)
        return stored

    def replace(self, pairs: Sequence[tuple[Rule, Rule]]) -> list[Rule]:
        """Overwrite the first of each pair with the second. Limits of unchanged algorithm and window keep theirs."""
        now: datetime = self._session.execute(select(func.clock_timestamp())).scalar_one()
        stored = []
        for chunk in _chunks(pairs):
            ids = [current.id for current, _ in chunk]
            numbers = self._session.execute(select(RuleRow.id, RuleRow.next_counter).where(RuleRow.id.in_(ids)))
            next_counters = {row.id: row.next_counter for row in numbers}
            written = [_successor(current, rule, next_counters[current.id], now) for current, rule in chunk]
            rows = [
                _columns(rule, first_counter=next_counters[rule.id])
                | {"row": rule.id, "version": rule.version, "updated_at": now}
                for rule in written
            ]
            self._session.connection().execute(_overwrite(rows[0]), rows)
            self._session.execute(delete(LimitRow).where(LimitRow.rule_id.in_(ids)))
            stored += written
        self._insert_limits(stored)
        return stored

    def delete(self, rules: Sequence[Rule]) -> None:
        for chunk in _chunks(rules):
            self._session.execute(delete(RuleRow).where(RuleRow.id.in_([rule.id for rule in chunk])))

    def bump_version(self) -> int:
        """The next version. Holds the row until commit, so that changes happen in the order of their versions."""
        bump = update(RuleBookRow).values(version=RuleBookRow.version + 1).returning(RuleBookRow.version)
        return self._session.execute(bump).scalar_one()

    def claim_examples(self) -> bool:
        """True for exactly one caller ever: the one that is to load the example rules."""
        claim = update(RuleBookRow).where(~RuleBookRow.examples_loaded).values(examples_loaded=True)
        return self._session.execute(claim.returning(RuleBookRow.id)).scalar_one_or_none() is not None

    def _read(self, rows: Select[tuple[RuleRow]]) -> list[Rule]:
        fresh = rows.order_by(RuleRow.id).execution_options(populate_existing=True)
        return [_rule(row) for row in self._session.execute(fresh).scalars()]

    def _keys(self) -> tuple[ApiKey, ...]:
        in_force = select(ApiKeyRow).where(ApiKeyRow.revoked_at.is_(None)).order_by(ApiKeyRow.id)
        return tuple(_key(row) for row in self._session.execute(in_force).scalars())

    def _insert_limits(self, rules: Sequence[Rule]) -> None:
        rows = [_limit_columns(rule, place, limit) for rule in rules for place, limit in enumerate(rule.limits)]
        for chunk in _chunks(rows):
            self._session.execute(insert(LimitRow), chunk)


def _chunks(items: Sequence[T]) -> Iterator[Sequence[T]]:
    return (items[start : start + CHUNK] for start in range(0, len(items), CHUNK))


def _of(tenant_id: int, wanted: dict[str, Any]) -> Select[tuple[RuleRow]]:
    fields = [getattr(RuleRow, name) == value for name, value in wanted.items()]  # None becomes IS NULL
    return select(RuleRow).where(RuleRow.tenant_id == tenant_id, *fields)


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


def _overwrite(row: dict[str, Any]) -> Any:
    columns: dict[str, Any] = {name: bindparam(name) for name in row if name != "row"}
    return update(RuleRow).where(RuleRow.id == bindparam("row")).values(columns)


def _successor(current: Rule, rule: Rule, next_counter: int, now: datetime) -> Rule:
    """`rule` as the next version of `current`."""
    return replace(
        rule,
        id=current.id,
        version=current.version + 1,
        created_at=current.created_at,
        updated_at=now,
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


def _rule(row: RuleRow) -> Rule:
    return Rule(
        id=row.id,
        tenant_id=row.tenant_id,
        client_id=row.client_id,
        endpoint=row.endpoint,
        limits=tuple(
            Limit(limit.rate, limit.window_seconds, limit.algorithm, limit.burst, limit.counter) for limit in row.limits
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
