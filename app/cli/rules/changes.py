"""`flask rules edit|block|unblock|promote`: changes that keep unnamed fields."""

from __future__ import annotations

from typing import Any

import click
from msgspec.structs import replace

from app.api.admin.counter_schemas import QuestionSchema
from app.api.admin.rules.rule_json import patched, rule_answer, rule_from
from app.api.admin.rules.rule_warnings import if_readable, warnings_of, warnings_of_block
from app.api.admin.rules.schemas import ClientToBlockSchema
from app.cli.command import agree, as_json, asking, by_operator, command, of_tenant, tenant_named
from app.cli.output import many, print_changes, print_json, shown_owner
from app.cli.resources.context import session, settings
from app.cli.rules.crud import as_seen, stored
from app.cli.rules.options import sent, single_fields
from app.rules.actions import promoted
from app.rules.documents import differences, document_of
from app.rules.rule import Rule
from app.rules.sql.changes import RuleChanges, anything
from app.rules.sql.history import Author
from app.rules.sql.merge import Merge
from app.rules.sql.repository import RuleRepository


@command("edit")
@click.argument("rule_id", type=int)
@of_tenant
@single_fields
@click.option("--enabled/--disabled", default=None)
@by_operator
@as_json
def edit_rule(rule_id: int, tenant: str, enabled: bool | None, author: Author, as_json: bool, **fields: Any) -> None:
    """Change the named fields and keep the others.

    --rate, --window, --algorithm and --burst are those of the first limit; --limit replaces all of them.
    """
    named = sent(fields) | ({} if enabled is None else {"enabled": enabled})
    if not named:
        raise click.UsageError("name at least one field")
    before = stored(tenant, rule_id)

    def edited(rule: Rule) -> Rule:
        nonlocal before
        before = rule
        algorithm = settings().algorithm
        return rule_from(patched(rule, named), tenant_id=rule.tenant_id, default_algorithm=algorithm, stored=rule)

    after = RuleChanges(session(), before.tenant_id, author).edit(rule_id, edited)
    _print(f"rule {rule_id}: version {after.version}", before, after, as_json)


@command("block")
@click.argument("client_id")
@of_tenant
@by_operator
@as_json
def block(client_id: str, tenant: str, author: Author, as_json: bool) -> None:
    """Deny a client (an id, a network or a pattern) everything, on every endpoint. `rules unblock` ends it."""
    ClientToBlockSchema().load({"client_id": client_id})
    tenant_id = tenant_named(tenant).id
    merge = RuleChanges(session(), tenant_id, author).block(client_id)
    _print_block(f"client {client_id}: blocked", client_id, tenant_id, merge, as_json)


@command("unblock")
@click.argument("client_id")
@of_tenant
@by_operator
@as_json
def unblock(client_id: str, tenant: str, author: Author, as_json: bool) -> None:
    """Unblock a client: its rules do what they did before the block."""
    QuestionSchema().load({"client_id": client_id})
    tenant_id = tenant_named(tenant).id
    merge = RuleChanges(session(), tenant_id, author).unblock(client_id)
    said = "no longer blocked" if merge.changes_anything else "no rule of its own blocks it"
    _print_block(f"client {client_id}: {said}", client_id, tenant_id, merge, as_json)


@command("promote")
@click.argument("rule_id", type=int)
@of_tenant
@asking
@by_operator
@as_json
def promote(rule_id: int, tenant: str, yes: bool, author: Author, as_json: bool) -> None:
    """Enforce a shadow rule, in place of the enforced rule of the same client and endpoint."""
    shadow = stored(tenant, rule_id)
    twin = RuleRepository(session()).twin(replace(shadow, shadow=False))
    before, after = twin or shadow, promoted(shadow, twin)
    if not yes:
        who = shown_owner(before.client_id, before.group)
        click.echo(f"rule {before.id} ({who}, {before.endpoint or 'any endpoint'}) becomes:", err=True)
        print_changes(differences(document_of(before), document_of(after)), err=True)
    agree(f"Enforce what shadow rule {rule_id} says?", yes)
    changes = RuleChanges(session(), shadow.tenant_id, author)
    now = changes.promote(rule_id, as_seen(shadow), anything if yes else as_seen(twin))
    _print(f"rule {now.id}: version {now.version} is enforced", before, now, as_json)


def _print(line: str, before: Rule, after: Rule, as_json: bool) -> None:
    if as_json:
        print_json(rule_answer(after))
    else:
        click.echo(line)
        print_changes(differences(document_of(before), document_of(after)))
    for warning in if_readable(lambda: warnings_of(after, before, RuleRepository(session()))) or []:
        click.echo(warning, err=True)


def _print_block(line: str, client_id: str, tenant_id: int, merge: Merge, as_json: bool) -> None:
    rules = [*merge.created, *(after for _, after in merge.replaced), *merge.unchanged]
    if as_json:
        print_json({"rules": [rule_answer(rule) for rule in rules], "deleted": [rule.id for rule in merge.deleted]})
    else:
        numbers = ", ".join(str(rule.id) for rule in (*rules, *merge.deleted))
        click.echo(f"{line} ({many(len(rules) + len(merge.deleted), 'rule')}: {numbers})" if numbers else line)
    for warning in if_readable(lambda: warnings_of_block(client_id, tenant_id, RuleRepository(session()))) or []:
        click.echo(warning, err=True)
