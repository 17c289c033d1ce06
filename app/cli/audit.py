"""`flask audit`: the changes with their authors, newest first."""

from __future__ import annotations

from typing import Any

import click

from app.cli.command import as_json, command, of_tenant, tenant_named
from app.cli.output import print_changes, print_json, shown_owner, table
from app.cli.resources.context import session
from app.cli.times import MomentType
from app.rules.documents import differences
from app.rules.sql.history import AuditFilter, History
from app.rules.sql.models import AuditEventRow

MAX_EVENTS = 10_000  # events shown at a time
NAMES = ("id", "at", "actor", "action", "subject", "before", "after", "correlation_id")
NOTHING: dict[str, Any] = {"limits": []}


@command("audit")
@click.option("--since", type=MomentType(), help="yesterday, monday, 2h, 3d, 2026-11-25, 2026-11-25T10:00:00Z (UTC).")
@click.option("--until", type=MomentType(), help="Likewise; not this moment itself.")
@click.option("--client-id", help="Of this client: its rules, and resets of its counters.")
@click.option("--group", help="Of this group: its rules, and resets of its counters.")
@click.option("--rule", type=int, help="Of this rule, also once it is deleted.")
@click.option("--actor", help="By this actor, as the audit names it: cli:jane.")
@click.option("--action", help="rule.delete, or rule.* for all of rules.")
@click.option("--correlation-id", help="Of the request with this X-Correlation-ID.")
@click.option("--limit", type=click.IntRange(1, MAX_EVENTS), default=50, show_default=True, help="Events at most.")
@of_tenant
@as_json
def audit(rule: int | None, limit: int, tenant: str, as_json: bool, **wanted: Any) -> None:
    """Changes with their authors, newest first. Times are UTC."""
    subject = None if rule is None else f"rule {rule}"
    found = AuditFilter(subject=subject, **wanted)
    events, total = History(session(), tenant_named(tenant).id).events(found, 0, limit)
    if as_json:
        print_json([{name: getattr(event, name) for name in NAMES} for event in events])
        return
    rows = ((event.at, event.actor, event.action, _subject(event), event.correlation_id) for event in events)
    head, *lines = table(("TIME", "BY", "ACTION", "WHAT", "CORRELATION ID"), rows)
    click.echo(head)
    for line, event in zip(lines, events, strict=True):
        click.echo(line)
        if event.before and event.after and "client_id" in event.after:
            print_changes(differences(event.before, event.after))
    if total > len(events):
        click.echo(f"({total - len(events)} older ones: --limit)")


def _subject(event: AuditEventRow) -> str:
    rule = event.after or event.before or {}
    if "client_id" not in rule:
        return event.subject
    owner = shown_owner(rule["client_id"], rule.get("group"))
    return f"{event.subject} ({owner}, {rule.get('endpoint') or 'any endpoint'})"
