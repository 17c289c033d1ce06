"""Conversion between rows and values of rules and limits."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from app.rules.rule import UNDERSTOOD, Limit, Rule
from app.rules.sql.database.bulk_sql import table_of
from app.rules.sql.models import LimitRow, RuleRow

# Plain rows: a snapshot has thousands, and ORM objects would cost ten times as much.
RULES, LIMITS = table_of(RuleRow), table_of(LimitRow)
# Nodes of later releases may store rules by which this one cannot decide.
UNDERSTANDABLE = RULES.c.needs <= UNDERSTOOD
FIELDS = [column for column in RULES.c if column.name not in ("needs", "next_counter")]
# The columns that checks need.
DECIDING = [column for column in FIELDS if column.name not in ("created_at", "updated_at")]


def rule_columns(rule: Rule, *, first_counter: int) -> dict[str, Any]:
    """`first_counter`: the lowest number that its next new limit may take."""
    return {
        "tenant_id": rule.tenant_id,
        "client_id": rule.client_id or None,
        "group": rule.group,
        "layer": rule.layer,
        "shared": rule.shared,
        "needs": rule.needs,
        "endpoint": rule.endpoint,
        "action": rule.action,
        "fail_mode": rule.fail_mode,
        "shadow": rule.shadow,
        "enabled": rule.enabled,
        "description": rule.description,
        "next_counter": max([first_counter, *(limit.counter + 1 for limit in rule.limits)]),
    }


def limit_columns(rule: Rule, position: int, limit: Limit) -> dict[str, Any]:
    return {
        "rule_id": rule.id,
        "position": position,
        "rate": limit.rate,
        "window_seconds": limit.window,
        "algorithm": limit.algorithm,
        "burst": limit.burst,
        "counter": limit.counter,
    }


@lru_cache(maxsize=4096)
def limit_of(*columns: Any) -> Limit:
    """Return the limit of the columns of LIMITS after the first two.

    Equal limits of thousands of rules share one object.
    """
    return Limit(*columns)
