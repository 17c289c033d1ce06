"""Rules as tables show them."""

from __future__ import annotations

from collections.abc import Sequence

from app.api.admin.rules.rule_json import rule_answer
from app.cli.output import print_json, print_table, shown_owner
from app.rules.rule import Limit, Rule

HEAD = ("ID", "VERSION", "LAYER", "CLIENT", "ENDPOINT", "ACTION", "LIMITS", "NOTES")


def print_rules(stored: Sequence[Rule], as_json: bool) -> None:
    if as_json:
        print_json([rule_answer(rule) for rule in stored])
        return
    print_table(HEAD, map(_row, stored))


def _row(rule: Rule) -> tuple[object, ...]:
    owner = shown_owner(rule.client_id, rule.group)
    return rule.id, rule.version, rule.layer, owner, rule.endpoint, rule.action, shown_limits(rule), _notes(rule)


def shown_limits(rule: Rule) -> str:
    return ", ".join(_limit(limit) for limit in rule.limits) or "-"


def _limit(limit: Limit) -> str:
    algorithm = f" {limit.algorithm}" if limit.algorithm else ""
    return f"{limit.rate}/{limit.window}s{algorithm}" + (f" burst {limit.burst}" if limit.burst else "")


def _notes(rule: Rule) -> str:
    notes = (
        ["shared"] * rule.shared
        + ["shadow"] * rule.shadow
        + ["disabled"] * (not rule.enabled)
        + [f"fail {rule.fail_mode}"] * bool(rule.fail_mode)
    )
    return ", ".join([*notes, *([rule.description] if rule.description else [])]) or "-"
