"""`flask rules list|show|set|delete|load-examples`: rules one by one."""

from __future__ import annotations

from typing import Any

import click

from app.api.admin.rules.rule_json import rule_answer, rule_from
from app.api.admin.rules.rule_warnings import if_readable, warnings_of
from app.api.admin.rules.schemas import RuleSchema
from app.cli.command import agree, as_json, asking, by_operator, command, of_tenant, tenant_named
from app.cli.output import print_changes, print_json, print_table, shown_owner
from app.cli.resources.context import session, settings
from app.cli.rules.options import sent, single_fields
from app.cli.rules.table import print_rules, shown_limits
from app.rules.documents import LIMIT_FIELDS, document_of, lost
from app.rules.errors import NotFound
from app.rules.rule import Rule
from app.rules.sql import changes
from app.rules.sql.history import Author
from app.rules.sql.repository import RuleRepository


@command("list")
@of_tenant
@click.option("--client-id", help="Only this client or pattern.")
@click.option("--contains", help="Only clients and patterns with this text in them.")
@click.option("--endpoint", help="Only this endpoint.")
@click.option("--group", help="Only this group or pattern.")
@click.option("--layer", help="Only this layer.")
@click.option("--shared/--not-shared", default=None, help="Only rules with shared counters, or only others.")
@as_json
def list_rules(tenant: str, as_json: bool, **filters: str | bool | None) -> None:
    """The rules of a tenant, oldest first."""
    wanted = {name: value for name, value in filters.items() if value is not None}
    print_rules(RuleRepository(session()).rules(tenant_named(tenant).id, **wanted), as_json)


@command("show")
@click.argument("rule_id", type=int)
@of_tenant
@as_json
def show_rule(rule_id: int, tenant: str, as_json: bool) -> None:
    """One rule, all of its fields."""
    rule = stored(tenant, rule_id)
    if as_json:
        print_json(rule_answer(rule))
        return
    shown = rule_answer(rule) | {"limits": shown_limits(rule)}
    rows = ((name, value) for name, value in shown.items() if name not in LIMIT_FIELDS)
    print_table(("FIELD", "VALUE"), rows, widest=None)


@command("set")
@click.argument("client_id", required=False)
@of_tenant
@click.option("--group", help="For this group (exact, or a glob like org:*) instead of a client.")
@click.option("--endpoint", help="Only this endpoint; any without it.")
@click.option("--shadow", is_flag=True, help="Decided beside the enforced rule, never enforced.")
@click.option("--disabled", is_flag=True)
@single_fields
@asking
@by_operator
@as_json
def set_rule(
    client_id: str | None,
    tenant: str,
    group: str | None,
    endpoint: str | None,
    yes: bool,
    author: Author,
    as_json: bool,
    **fields: Any,
) -> None:
    """Create the rule of this client (an id, a network like ip:10.0.0.0/8, a glob like premium_*, or *), or replace it.

    Asks before it replaces what the options do not name; `rules edit` keeps it.
    """
    owner = tenant_named(tenant).id
    named = sent(fields)
    loaded = RuleSchema().load({"client_id": client_id, "group": group, "endpoint": endpoint} | named)
    rule = rule_from(loaded, tenant_id=owner, default_algorithm=settings().algorithm)
    twin = RuleRepository(session()).twin(rule)
    goes = {} if twin is None else lost(document_of(twin), document_of(rule), named)
    if twin is not None and goes and not yes:
        click.echo(f"rule {twin.id} has fields that this command does not name:", err=True)
        print_changes(goes, err=True)
        agree(f"Replace it? (`rules edit {twin.id}` changes only named fields.)", yes)
    expected = changes.anything if yes else as_seen(twin)
    replaced, created = changes.RuleChanges(session(), owner, author).put(rule, expected)
    if as_json:
        print_json(rule_answer(replaced))
    else:
        click.echo(f"rule {replaced.id}: {'created' if created else f'replaced, version {replaced.version}'}")
    for warning in if_readable(lambda: warnings_of(replaced, twin, RuleRepository(session()))) or []:
        click.echo(warning, err=True)


@command("delete")
@click.argument("rule_id", type=int)
@of_tenant
@asking
@by_operator
def delete_rule(rule_id: int, tenant: str, yes: bool, author: Author) -> None:
    """Delete a rule. Creating it again starts new counters."""
    rule = stored(tenant, rule_id)
    who = f"{shown_owner(rule.client_id, rule.group)}, {rule.endpoint or 'any endpoint'}"
    for warning in warnings_of(None, rule, RuleRepository(session())):
        click.echo(warning, err=True)
    agree(f"Delete rule {rule_id} ({who}) and its versions?", yes)
    changes.RuleChanges(session(), tenant_named(tenant).id, author).delete(rule_id)
    click.echo(f"rule {rule_id}: deleted")


@command("load-examples")
def load_examples() -> None:
    """Store the example rules, once per database: a deleted example stays deleted."""
    count = changes.load_examples(session())
    click.echo(f"{count} example rules stored" if count else "example rules: loaded before, nothing to do")


def stored(tenant: str, rule_id: int) -> Rule:
    rule = RuleRepository(session()).get(tenant_named(tenant).id, rule_id)
    if rule is None:
        raise NotFound(f"there is no rule {rule_id}")
    return rule


def as_seen(seen: Rule | None) -> changes.Expected:
    """Accepts a change only if the rule is still at the version that was shown and agreed to."""
    return lambda now: (now and now.version) == (seen and seen.version)
