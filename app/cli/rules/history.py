"""`flask rules history|rollback|prune`: the versions of rules, their restoration, and their retention."""

from __future__ import annotations

import click

from app.api.admin.rules.rule_json import version_answers
from app.cli.command import agree, as_json, asking, by_operator, command, of_tenant, tenant_named
from app.cli.output import print_changes, print_json, table
from app.cli.resources.context import session, settings
from app.rules.errors import NotFound
from app.rules.sql.changes import RuleChanges
from app.rules.sql.history import Author, History, prune

MAX_VERSIONS = 1000  # shown at a time


@command("history")
@click.argument("rule_id", type=int)
@of_tenant
@as_json
def history(rule_id: int, tenant: str, as_json: bool) -> None:
    """The versions of a rule, newest first, with their authors and changes."""
    rows, total = History(session(), tenant_named(tenant).id).versions(rule_id, 0, MAX_VERSIONS)
    if not total:
        raise NotFound(f"there is no rule {rule_id}")
    versions = version_answers(rows)
    if as_json:
        print_json(versions)
        return
    names = ("version", "updated_at", "change", "actor")
    head, *lines = table(("VERSION", "TIME", "CHANGE", "BY"), ([shown[name] for name in names] for shown in versions))
    click.echo(head)
    for line, shown in zip(lines, versions, strict=True):
        click.echo(line)
        print_changes(shown["changes"] or {})


@command("rollback")
@click.argument("rule_id", type=int)
@click.argument("version", type=click.IntRange(1, 2**31 - 1))
@of_tenant
@by_operator
def roll_back(rule_id: int, version: int, tenant: str, author: Author) -> None:
    """Restore a version of a rule, as a new version."""
    stored = RuleChanges(session(), tenant_named(tenant).id, author).roll_back(rule_id, version)
    click.echo(f"rule {rule_id}: version {stored.version} restores version {version}")


@command("prune")
@asking
def prune_history(yes: bool) -> None:
    """Delete old audit events and versions: those beyond AUDIT_RETENTION_DAYS and VERSIONS_KEPT.

    Needs a database role that may delete from the audit.
    """
    days, kept = settings().audit_retention_days, settings().versions_kept
    agree(f"Delete audit events older than {days} days and all but {kept} versions of each rule for good?", yes)
    events, versions = prune(session(), audit_days=days, versions_kept=kept)
    click.echo(f"{events} audit events older than {days} days and {versions} versions beyond {kept} a rule deleted")
