"""`flask rules history|rollback|prune`: how rules came to be, back to what they were, and what is kept of it."""

from __future__ import annotations

import click
from flask.cli import with_appcontext

from app.api.admin import shown_versions
from app.cli.commands import as_json, author, of_tenant, say_json, settings, table, tenant_named
from app.cli.files import say_changes
from app.extensions import db
from app.rules.changes import RuleChanges
from app.rules.errors import NotFound
from app.rules.history import History, prune

MAX_VERSIONS = 1000  # shown at a time


@click.command("history")
@click.argument("rule_id", type=int)
@of_tenant
@as_json
@with_appcontext
def history(rule_id: int, tenant: str, as_json: bool) -> None:
    """The versions of a rule, newest first: who made them, and what they changed."""
    rows, total = History(db.session(), tenant_named(tenant).id).versions(rule_id, 0, MAX_VERSIONS)
    if not total:
        raise NotFound(f"there is no rule {rule_id}")
    versions = shown_versions(rows)
    if as_json:
        say_json(versions)
        return
    names = ("version", "updated_at", "change", "actor")
    head, *lines = table(("VERSION", "TIME", "CHANGE", "BY"), ([shown[name] for name in names] for shown in versions))
    click.echo(head)
    for line, shown in zip(lines, versions, strict=True):
        click.echo(line)
        say_changes(shown["changes"] or {})


@click.command("rollback")
@click.argument("rule_id", type=int)
@click.argument("version", type=click.IntRange(1, 2**31 - 1))
@of_tenant
@with_appcontext
def roll_back(rule_id: int, version: int, tenant: str) -> None:
    """Make a rule again what it was at a version, as a new version."""
    stored = RuleChanges(db.session(), tenant_named(tenant).id, author()).roll_back(rule_id, version)
    click.echo(f"rule {rule_id}: version {stored.version} is as version {version} was")


@click.command("prune")
@click.confirmation_option("--yes", prompt="Delete old audit events and versions for good?")
@with_appcontext
def prune_history() -> None:
    """Delete what is older than the settings keep. Needs a database role that may delete from the audit."""
    days, kept = settings().audit_retention_days, settings().versions_kept
    events, versions = prune(db.session(), audit_days=days, versions_kept=kept)
    click.echo(f"{events} audit events older than {days} days and {versions} versions beyond {kept} a rule deleted")


COMMANDS = (history, roll_back, prune_history)
