"""`flask rules list|show|set|delete|load-examples`: rules one by one."""

from __future__ import annotations

from typing import Any

import click

from app.api.rule_forms import answered, rule_from
from app.api.rule_schemas import RuleSchema
from app.cli.commands import Commands, as_json, author, of_tenant, say_json, say_table, settings, tenant_named
from app.extensions import db
from app.rules import changes
from app.rules.errors import NotFound
from app.rules.repository import RuleRepository
from app.rules.rule import ACTIONS, ALGORITHMS, FAIL_MODES, Limit, Rule

rules = Commands("rules", help="Rules: look, change, import, export, validate, compare, roll back.")


class LimitType(click.ParamType):
    """RATE/WINDOW, optionally followed by /ALGORITHM and /BURST."""

    name = "RATE/WINDOW[/ALGORITHM[/BURST]]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> dict[str, Any]:
        try:
            parts = value.split("/")
            rate, window, algorithm, burst = parts + [""] * max(0, 4 - len(parts))
            limit: dict[str, Any] = {"rate": int(rate), "window": int(window)}
            return limit | {"algorithm": algorithm or None, "burst": int(burst) if burst else None}
        except ValueError:
            self.fail(f"{value!r} is not {self.name}", param, ctx)


@rules.command("list")
@of_tenant
@click.option("--client-id", help="Only this client or pattern.")
@click.option("--endpoint", help="Only this endpoint.")
@as_json
def list_rules(tenant: str, client_id: str | None, endpoint: str | None, as_json: bool) -> None:
    """The rules of a tenant, oldest first."""
    wanted = {name: value for name, value in (("client_id", client_id), ("endpoint", endpoint)) if value is not None}
    say_rules(RuleRepository(db.session()).rules(tenant_named(tenant).id, **wanted), as_json)


@rules.command("show")
@click.argument("rule_id", type=int)
@of_tenant
@as_json
def show_rule(rule_id: int, tenant: str, as_json: bool) -> None:
    """One rule, all of its fields."""
    rule = _stored(tenant, rule_id)
    if as_json:
        say_json(answered(rule))
    else:
        shown = answered(rule) | {"limits": shown_limits(rule)}
        say_table(("FIELD", "VALUE"), ((name, value) for name, value in shown.items() if name not in RATE_FIELDS))


@rules.command("set")
@click.argument("client_id")
@of_tenant
@click.option("--endpoint", help="Only this endpoint; any without it.")
@click.option("--rate", type=int)
@click.option("--window", type=int, help="Seconds.")
@click.option("--algorithm", type=click.Choice(ALGORITHMS))
@click.option("--burst", type=int)
@click.option("--limit", "limits", type=LimitType(), multiple=True, help="Instead of --rate and --window; repeatable.")
@click.option("--action", type=click.Choice(ACTIONS), default="limit", show_default=True)
@click.option("--fail-mode", type=click.Choice(FAIL_MODES))
@click.option("--shadow", is_flag=True, help="Decided beside the enforced rule, never enforced.")
@click.option("--disabled", is_flag=True)
@click.option("--description", default="")
@as_json
def set_rule(tenant: str, limits: tuple[dict[str, Any], ...], disabled: bool, as_json: bool, **fields: Any) -> None:
    """Create the rule of this client (an id, a glob like premium_*, or *), or replace it."""
    sent = {name: value for name, value in fields.items() if value is not None} | {"enabled": not disabled}
    loaded = RuleSchema().load(sent | ({"limits": list(limits)} if limits else {}))
    owner = tenant_named(tenant).id
    rule = rule_from(loaded, tenant_id=owner, default_algorithm=settings().algorithm)
    stored, created = changes.RuleChanges(db.session(), owner, author()).put(rule)
    if as_json:
        say_json(answered(stored))
    else:
        click.echo(f"rule {stored.id}: {'created' if created else f'replaced, version {stored.version}'}")
    _say_what_comes_first(stored)


@rules.command("delete")
@click.argument("rule_id", type=int)
@of_tenant
@click.option("--yes", is_flag=True, help="Do not ask.")
def delete_rule(rule_id: int, tenant: str, yes: bool) -> None:
    """Delete a rule. Creating it again starts new counters."""
    rule = _stored(tenant, rule_id)
    who = f"{rule.client_id}, {rule.endpoint or 'any endpoint'}"
    if not yes:
        click.confirm(f"Delete rule {rule_id} ({who}) and its versions?", abort=True)
    changes.RuleChanges(db.session(), tenant_named(tenant).id, author()).delete(rule_id)
    click.echo(f"rule {rule_id}: deleted")


@rules.command("load-examples")
def load_examples() -> None:
    """Store the example rules, once in the life of a database: a deleted example stays deleted."""
    stored = changes.load_examples(db.session())
    click.echo(f"{stored} example rules stored" if stored else "example rules: loaded before, nothing to do")


def _stored(tenant: str, rule_id: int) -> Rule:
    rule = RuleRepository(db.session()).get(tenant_named(tenant).id, rule_id)
    if rule is None:
        raise NotFound(f"there is no rule {rule_id}")
    return rule


def _say_what_comes_first(rule: Rule) -> None:
    """Who blocks a client, or lets it go on, has to know where this rule does not decide."""
    if rule.endpoint is not None or not rule.enabled:
        return
    wanted = {"client_id": rule.client_id, "shadow": rule.shadow, "enabled": True}
    others = [other for other in RuleRepository(db.session()).rules(rule.tenant_id, **wanted) if other.endpoint]
    if others:
        endpoints = ", ".join(f"{other.endpoint} (rule {other.id})" for other in others)
        click.echo(f"not for {endpoints}: this client's rules for an endpoint come first", err=True)


RATE_FIELDS = ("rate", "window", "algorithm", "burst")


def say_rules(stored: list[Rule], as_json: bool) -> None:
    if as_json:
        say_json([answered(rule) for rule in stored])
        return
    head = ("ID", "VERSION", "CLIENT", "ENDPOINT", "ACTION", "LIMITS", "NOTES")
    say_table(head, ((r.id, r.version, r.client_id, r.endpoint, r.action, shown_limits(r), _notes(r)) for r in stored))


def shown_limits(rule: Rule) -> str:
    return ", ".join(_limit(limit) for limit in rule.limits) or "-"


def _limit(limit: Limit) -> str:
    algorithm = f" {limit.algorithm}" if limit.algorithm else ""
    return f"{limit.rate}/{limit.window}s{algorithm}" + (f" burst {limit.burst}" if limit.burst else "")


def _notes(rule: Rule) -> str:
    notes = (
        ["shadow"] * rule.shadow + ["disabled"] * (not rule.enabled) + [f"fail {rule.fail_mode}"] * bool(rule.fail_mode)
    )
    return ", ".join([*notes, *([rule.description] if rule.description else [])]) or "-"
