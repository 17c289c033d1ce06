"""Reads and writes the rows of rules, returns values. Every method runs in the caller's transaction."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from msgspec.structs import replace
from sqlalchemy import ColumnElement, Select, and_, exists, func, literal, or_, select
from sqlalchemy.orm import Session

from app.rules.counter_numbers import numbered, successor
from app.rules.matching.glob import is_pattern
from app.rules.matching.networks import ADDRESS, around, network_of
from app.rules.matching.pattern_bounds import Pattern
from app.rules.matching.rule_overlap import head_of
from app.rules.rule import Identity, Limit, Rule
from app.rules.sql.database.bulk_sql import delete_rows, insert_rows, update_rows
from app.rules.sql.database.pagination import slice_of, total_of
from app.rules.sql.models import LimitRow, RuleRow
from app.rules.sql.rows import (
    DECIDING,
    FIELDS,
    LIMITS,
    RULES,
    UNDERSTANDABLE,
    limit_columns,
    limit_of,
    rule_columns,
)
from app.rules.sync.yielding import Pace, let_go, unpaced

ROWS_IN_PART = 500  # of a result; a part is read without a switch
IDENTIFYING = ("layer", "client_id", "group", "endpoint", "shadow")
IDENTITY = (RuleRow.layer, func.coalesce(RuleRow.client_id, ""), RuleRow.group, RuleRow.endpoint, RuleRow.shadow)
MAX_BESIDE = 500  # reading more would block other greenlets


class RuleRepository:
    """Rules of one database session. `pace` runs every loop over thousands of rules."""

    def __init__(self, session: Session, pace: Pace = unpaced) -> None:
        self._session = session
        self._pace = pace

    def of_ids(self, ids: Sequence[int]) -> Iterator[Rule]:
        """Yield the rules with these ids, without their times, each made on demand."""
        return self._read(select(*DECIDING).where(RULES.c.id == func.any(list(ids)), UNDERSTANDABLE))

    def rules(self, tenant_id: int, **wanted: Any) -> list[Rule]:
        """Return the tenant's rules, oldest first.

        `wanted` gives required fields; `contains` is text in the client id.
        """
        return list(self._pace(self._read(_in_parts(_of(tenant_id, wanted)))))

    def each(self, tenant_id: int) -> Iterator[Rule]:
        """Yield the tenant's rules, oldest first, each made on demand in this transaction."""
        return self._read(_in_parts(_of(tenant_id, {})))

    def of_client(self, tenant_id: int, client_id: str) -> list[Rule]:
        """Return the rules that may decide for the client: its own, and all for patterns, its networks and groups."""
        client = RULES.c.client_id
        named = or_(client.in_([client_id, *around(client_id)]), client.contains("*"), client.is_(None))
        return list(self._read(_of(tenant_id, {}).where(named)))

    def beside(self, rule: Rule) -> list[Rule]:
        """Return the enabled rules that may precede this one or follow it in precedence.

        These are rules of its layer and its own client, and of clients, networks and patterns that may share clients
        with it. At most MAX_BESIDE, shortest client first. Not for rules of groups.
        """
        if rule.group is not None:
            return []
        client, network = RULES.c.client_id, network_of(rule.client_id)
        of_networks: ColumnElement[bool] = client.in_(around(rule.client_id))
        if "*" not in rule.client_id and network is None:
            found = or_(client == rule.client_id, literal(rule.client_id).like(_like(client), escape="\\"), of_networks)
        else:
            glob = rule.client_id if network is None else f"{head_of(network)}*"
            endpoints = or_(RULES.c.endpoint.is_(None), RULES.c.endpoint == rule.endpoint)
            covers = literal(rule.action == "block") if rule.endpoint is None else endpoints
            protects = or_(RULES.c.endpoint.is_not(None), RULES.c.action == "block")
            if network is None:  # SQL cannot tell whether a network meets a glob
                of_networks = and_(client.like(f"{ADDRESS}%/%"), covers)
            found = or_(
                client == rule.client_id,
                and_(client.contains("*"), _meets(client, glob), or_(protects, covers)),
                and_(client.like(_like(literal(glob)), escape="\\"), covers),
                and_(of_networks, or_(protects, covers)),
            )
        alike = {"layer": rule.layer, "shadow": rule.shadow, "enabled": True}
        others = _of(rule.tenant_id, alike).where(found, RULES.c.id != rule.id)
        return list(self._read(others.order_by(func.length(client), client).limit(MAX_BESIDE)))

    def page(self, tenant_id: int, wanted: dict[str, Any], offset: int, count: int) -> tuple[list[Rule], int]:
        """Return a page of the tenant's rules and their total."""
        found = _of(tenant_id, wanted)
        rules = list(self._read(_in_parts(slice_of(found.order_by(RULES.c.id), offset, count))))
        return rules, total_of(self._session, found)

    def count(self, tenant_id: int) -> int:
        return total_of(self._session, _of(tenant_id, {}))

    def patterns(self, tenant_id: int) -> set[Pattern]:
        """Return the patterns of the tenant's rules."""
        client, group = RULES.c.client_id, RULES.c.group
        wild = or_(client.contains("*"), group.contains("*"))
        columns = select(func.coalesce(client, group), RULES.c.layer, group.is_not(None))
        found = self._session.execute(columns.where(RULES.c.tenant_id == tenant_id, UNDERSTANDABLE, wild).distinct())
        return {Pattern(*row) for row in found if is_pattern(row[0])}

    def has_layers(self, tenant_id: int) -> bool:
        """Whether any rule of the tenant is for a group, in a layer of its own, or shared."""
        return self._session.execute(
            select(exists().where(RULES.c.tenant_id == tenant_id, RULES.c.needs > 0))
        ).scalar_one()

    def most_limits(self, tenant_id: int) -> dict[str, int]:
        """Return, by layer, the largest number of limits of any rule of the tenant."""
        most = func.coalesce(func.max(LIMITS.c.position) + 1, 0)
        rules = RULES.outerjoin(LIMITS, LIMITS.c.rule_id == RULES.c.id)
        found = select(RULES.c.layer, most).select_from(rules).where(RULES.c.tenant_id == tenant_id, UNDERSTANDABLE)
        return dict(map(tuple, self._session.execute(found.group_by(RULES.c.layer))))

    def get(self, tenant_id: int, rule_id: int) -> Rule | None:
        return next(self._read(_of(tenant_id, {"id": rule_id})), None)

    def twin(self, rule: Rule) -> Rule | None:
        """Return the tenant's stored rule with this identity."""
        columns = rule_columns(rule, first_counter=1)
        return next(self._read(_of(rule.tenant_id, {name: columns[name] for name in IDENTIFYING})), None)

    def add(self, rules: Sequence[Rule]) -> list[Rule]:
        """Insert rules of one tenant with different identities. Their counters are numbered from 1."""
        added = {rule.identity: replace(rule, limits=numbered(rule.limits)) for rule in self._pace(rules)}
        returning = (RuleRow.id, RuleRow.version, RuleRow.created_at, RuleRow.updated_at, *IDENTITY)
        rows = (rule_columns(rule, first_counter=1) for rule in self._pace(list(added.values())))
        stored = insert_rows(self._session, RuleRow, rows, returning)
        for rule_id, version, created, updated, *columns in self._pace(stored):
            identity: Identity = tuple(columns)
            rule = added[identity]
            added[identity] = replace(rule, id=rule_id, version=version, created_at=created, updated_at=updated)
        numbered_rules = list(added.values())
        let_go(self._pace, stored, added)
        self._insert_limits(numbered_rules)
        return numbered_rules

    def replace(self, pairs: Sequence[tuple[Rule, Rule]]) -> list[Rule]:
        """Overwrite the stored first rule of each pair with the second."""
        free = self._next_counters([current.id for current, _ in self._pace(pairs)])
        stored = {current.id: successor(current, rule, free[current.id]) for current, rule in self._pace(pairs)}
        rows = (
            rule_columns(rule, first_counter=free[rule.id]) | {"id": rule.id, "version": rule.version}
            for rule in self._pace(list(stored.values()))
        )
        returning = (RULES.c.id, RULES.c.updated_at)
        times = update_rows(self._session, RuleRow, rows, returning, updated_at=func.clock_timestamp())
        for rule_id, updated_at in self._pace(times):
            stored[rule_id] = replace(stored[rule_id], updated_at=updated_at)
        let_go(self._pace, times)
        before_and_after = ((current, stored[current.id]) for current, _ in self._pace(pairs))
        relimited = [rule for current, rule in before_and_after if current.limits != rule.limits]
        delete_rows(self._session, LimitRow.rule_id, (rule.id for rule in self._pace(relimited)))
        self._insert_limits(relimited)
        return list(stored.values())

    def delete(self, rules: Sequence[Rule]) -> None:
        delete_rows(self._session, RuleRow.id, (rule.id for rule in self._pace(rules)))

    def _read(self, wanted: Select[Any]) -> Iterator[Rule]:
        found = self._session.execute(wanted.order_by(RULES.c.id))
        names = list(found.keys())
        for rows in found.partitions(ROWS_IN_PART):
            limits: dict[int, list[Limit]] = {}
            mine = LIMITS.c.rule_id == func.any([row.id for row in rows])
            theirs = select(LIMITS).where(mine).order_by(LIMITS.c.rule_id, LIMITS.c.position)
            for rule_id, _, *columns in self._session.execute(theirs):
                limits.setdefault(rule_id, []).append(limit_of(*columns))
            for row in rows:
                fields = dict(zip(names, row, strict=True))
                fields["client_id"] = fields["client_id"] or ""
                yield Rule(limits=tuple(limits.get(fields["id"], ())), **fields)

    def _next_counters(self, ids: Sequence[int]) -> dict[int, int]:
        """Return, by rule id, the lowest counter number never used."""
        wanted = select(RULES.c.id, RULES.c.next_counter).where(RULES.c.id == func.any(list(ids)))
        return dict(map(tuple, self._pace(self._session.execute(_in_parts(wanted)))))

    def _insert_limits(self, rules: Sequence[Rule]) -> None:
        placed = ((rule, place, limit) for rule in self._pace(rules) for place, limit in enumerate(rule.limits))
        rows = (limit_columns(rule, place, limit) for rule, place, limit in placed)
        insert_rows(self._session, LimitRow, rows)


def in_one_state(session: Session) -> Session:
    """Return the session in a new transaction with one consistent view from its first statement on."""
    session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
    return session


def _in_parts(found: Select[Any]) -> Select[Any]:
    """Use a server-side cursor for results that are read to their end; other greenlets run between the parts."""
    return found.execution_options(yield_per=ROWS_IN_PART)


def _of(tenant_id: int, wanted: dict[str, Any]) -> Select[Any]:
    contains = wanted.get("contains", "")
    fields = [RULES.c[name] == value for name, value in wanted.items() if name != "contains"]  # None becomes IS NULL
    if contains:
        fields.append(RULES.c.client_id.contains(contains, autoescape=True))
    return select(*FIELDS).where(RULES.c.tenant_id == tenant_id, UNDERSTANDABLE, *fields)


def _meets(globs: Any, pattern: str) -> Any:
    """Whether some text matches both: one head is a prefix of the other, and so are the reversed tails."""
    head, tail = pattern.partition("*")[0], pattern.rpartition("*")[2][::-1]
    heads, tails = func.split_part(globs, "*", 1), func.split_part(func.reverse(globs), "*", 1)
    return and_(
        or_(func.starts_with(heads, head), func.starts_with(head, heads)),
        or_(func.starts_with(tails, tail), func.starts_with(tail, tails)),
    )


def _like(glob: Any) -> Any:
    """Return the glob as a LIKE pattern."""
    for sign in "\\%_":
        glob = func.replace(glob, sign, f"\\{sign}")
    return func.replace(glob, "*", "%")
