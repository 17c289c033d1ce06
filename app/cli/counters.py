"""`flask counters show|reset`: the counters of a client, and their reset."""

from __future__ import annotations

import click

from app.api.admin.counter_json import forget, reading_answer
from app.api.admin.counter_schemas import ClientSchema, ResetSchema
from app.cli.command import as_json, by_operator, command, of_tenant, tenant_named
from app.cli.output import print_json, print_table
from app.cli.resources.context import session, store
from app.cli.rules.client_rules import book_of_client
from app.limiter.counters import Counters, counting
from app.rules.matching.explanation import hidden_by
from app.rules.sql.history import Author

HEAD = ("RULE", "CLIENT", "ENDPOINT", "RATE", "WINDOW", "ALGORITHM", "LEFT", "OF", "SHADOW")
NAMES = ("rule_id", "client_id", "endpoint", "rate", "window", "algorithm", "remaining", "limit", "shadow")


@command("show")
@click.argument("client_id")
@of_tenant
@as_json
def show_counters(client_id: str, tenant: str, as_json: bool) -> None:
    """Show what the client has left, by every rule that can decide a check of it."""
    ClientSchema().load({"client_id": client_id})
    tenant_id = tenant_named(tenant).id
    book = book_of_client(tenant_id, client_id)
    candidates = book.candidates(tenant_id, client_id)
    hidden = hidden_by(rule for rule in candidates if not rule.shadow)
    limits = [(rule, limit) for rule in counting(candidates) if rule.id not in hidden for limit in rule.limits]
    readings = [reading_answer(reading) for reading in Counters(store(), book, tenant_id, client_id).read(limits)]
    if as_json:
        print_json(readings)
    else:
        print_table(HEAD, ([reading[name] for name in NAMES] for reading in readings))


@command("reset")
@click.argument("client_id")
@click.option("--limit-key", help="Only of the rule that decides this key.")
@of_tenant
@by_operator
def reset_counters(client_id: str, limit_key: str | None, tenant: str, author: Author) -> None:
    """Forget what the client has consumed, on every worker within a second."""
    given = {"client_id": client_id, "limit_key": limit_key}
    ResetSchema().load({name: value for name, value in given.items() if value is not None})
    tenant_id = tenant_named(tenant).id
    book = book_of_client(tenant_id, client_id)
    count = forget(session(), store(), book, tenant_id=tenant_id, client_id=client_id, limit_key=limit_key, by=author)
    click.echo(f"client {client_id}: {count} counters reset")
