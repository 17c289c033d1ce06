"""Tests whether a rule can decide, whatever its origin: the last test before every check depends on it."""

from __future__ import annotations

from functools import lru_cache
from re import fullmatch

from app.rules.rule import (
    ACTIONS,
    ALGORITHMS,
    DEFAULT_LAYER,
    FAIL_MODES,
    LAYER,
    MAX_AMOUNT,
    MAX_LIMITS,
    MAX_LOGGED_RATE,
    MAX_RATE_TIMES_WINDOW,
    MAX_WINDOW_SECONDS,
    Limit,
    Rule,
)


class InvalidRule(ValueError):
    """The message names the rule and its fault."""


def require_valid(rule: Rule) -> None:
    """Raises InvalidRule.

    The admin API refuses the same faults, but the database and the file can be edited by hand.
    """
    problem = _problem(rule)
    if problem is not None:
        raise InvalidRule(f"rule {rule.public_id} of tenant {rule.tenant_id}: {problem}")


def _problem(rule: Rule) -> str | None:
    if not rule.pattern or rule.endpoint == "":
        return "an empty client_id, group or endpoint"
    if rule.client_id and rule.group is not None:
        return "both a client_id and a group"
    if rule.layer != DEFAULT_LAYER and not fullmatch(LAYER, rule.layer):
        return f"the layer is {rule.layer!r}"
    if rule.action not in ACTIONS:
        return f"the action is {rule.action!r}"
    if rule.fail_mode is not None and rule.fail_mode not in FAIL_MODES:
        return f"the fail_mode is {rule.fail_mode!r}"
    if not (rule.action == "limit") <= len(rule.limits) <= MAX_LIMITS:
        return f"{len(rule.limits)} limits"
    return next((f"the limit {limit} is impossible" for limit in rule.limits if not _possible(limit)), None)


@lru_cache(maxsize=4096)  # thousands of rules have the same few limits
def _possible(limit: Limit) -> bool:
    most = max(limit.rate, limit.burst or 0)
    return (
        (limit.algorithm is None or limit.algorithm in ALGORITHMS)
        and 1 <= limit.rate <= MAX_AMOUNT
        and (limit.burst is None or 1 <= limit.burst <= MAX_AMOUNT)
        and 1 <= limit.window <= MAX_WINDOW_SECONDS
        and most * limit.window <= MAX_RATE_TIMES_WINDOW
        and not (limit.algorithm == "sliding_window" and limit.rate > MAX_LOGGED_RATE)
    )
