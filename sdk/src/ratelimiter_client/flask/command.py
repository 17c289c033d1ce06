"""`flask limits list`: the limits of views, and the rules that decide them."""

from __future__ import annotations

from typing import Any, Callable, Iterator

import click
from flask import Flask, current_app
from flask.cli import AppGroup

from ratelimiter_client.decision import Decision
from ratelimiter_client.errors import RateLimiterError
from ratelimiter_client.unnamed import BUILT_IN, DEFAULT_KEY
from ratelimiter_client.web.gate import Gate, Limit

SOMEBODY = "flask-limits-list"  # a client that no rule names
LimitsOf = Callable[[Flask, str, str], Any]


def commands(limits_of: LimitsOf) -> AppGroup:
    """The command group. `limits_of` returns the gate, and the limits of an endpoint for a method."""
    group = AppGroup("limits", help="Limits of this application's views.")

    @group.command("list")
    def list_limits() -> None:
        """Print a line for each view, method and limit, with the rule that decides for a client without its own."""
        app = current_app._get_current_object()  # type: ignore[attr-defined]
        rows = [("VIEW", "METHODS", "PATH", "LIMIT", "RULE"), *_rows(app, limits_of)]
        widths = [max(map(len, column)) for column in zip(*rows)]
        for row in rows:
            click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())

    return group


def _rows(app: Flask, limits_of: LimitsOf) -> Iterator[tuple[str, str, str, str, str]]:
    for rule in sorted(app.url_map.iter_rules(), key=lambda rule: (rule.rule, rule.endpoint)):
        by_limits: dict[tuple[tuple[str, str], ...], list[str]] = {}
        for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}):
            gate, limits = limits_of(app, rule.endpoint, method)
            by_limits.setdefault(tuple(_told(gate, limit) for limit in limits), []).append(method)
        for found, methods in by_limits.items():
            for limit, decided in found or (("-", ""),):
                yield rule.endpoint, ",".join(methods), rule.rule, limit, decided


def _told(gate: Gate, limit: Limit) -> tuple[str, str]:
    if callable(limit.limit_key):
        return "(by a function)", ""
    client: Any = gate.client
    if client is None:  # limits are disabled
        return limit.limit_key, ""
    try:
        return limit.limit_key, _rule(client.check(SOMEBODY, limit.limit_key, 0), limit.limit_key)
    except RateLimiterError as error:
        return limit.limit_key, _unknown(error)


def _rule(decision: Decision, limit_key: str) -> str:
    if decision.error is not None:
        return _unknown(decision.error)
    if decision.algorithm is None:
        return f"{decision.rule_id}: counts nothing"
    told = f"{decision.rule_id}: {decision.limit} in {decision.window} s, {decision.algorithm}"
    return f"{told} (no rule names it)" if decision.rule_id == BUILT_IN and limit_key != DEFAULT_KEY else told


def _unknown(error: object) -> str:
    return f"not known: {error}"
