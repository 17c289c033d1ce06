"""`flask counters show|reset`: what a client has left, and letting it start anew."""

from __future__ import annotations

import click

from app.api.counter_schemas import ClientSchema, ResetSchema
from app.api.counters import counters_of, forget, shown
from app.cli.commands import Commands, as_json, author, of_tenant, say_json, say_table, settings, tenant_named
from app.extensions import db
from app.limiter.counters import counting
from app.limiter.errors import NotReady
from app.rules.database import DatabaseRules
from app.rules.rule import default_rule
from app.rules.rule_book import RuleBook

counters = Commands("counters", help="Counters of a client: show, reset.")


@counters.command("show")
@click.argument("client_id")
@of_tenant
@as_json
def show_counters(client_id: str, tenant: str, as_json: bool) -> None:
    """What the client has left, of every rule that can decide a check of it."""
    ClientSchema().load({"client_id": client_id})
    book, tenant_id = _book(), tenant_named(tenant).id
    rules = counting(book.candidates(tenant_id, client_id))
    limits = [(rule, limit) for rule in rules for limit in rule.limits]
    readings = [shown(reading) for reading in counters_of(book, tenant_id, client_id).read(limits)]
    if as_json:
        say_json(readings)
        return
    head = ("RULE", "CLIENT", "ENDPOINT", "RATE", "WINDOW", "ALGORITHM", "LEFT", "OF", "SHADOW")
    names = ("rule_id", "client_id", "endpoint", "rate", "window", "algorithm", "remaining", "limit", "shadow")
    say_table(head, ([reading[name] for name in names] for reading in readings))


@counters.command("reset")
@click.argument("client_id")
@click.option("--limit-key", help="Only of the rule that decides this key.")
@of_tenant
def reset_counters(client_id: str, limit_key: str | None, tenant: str) -> None:
    """Forget what the client has consumed, on every worker within a second."""
    asked = {"client_id": client_id, "limit_key": limit_key}
    ResetSchema().load({name: value for name, value in asked.items() if value is not None})
    count = forget(_book(), tenant_named(tenant).id, client_id, limit_key, author())
    click.echo(f"client {client_id}: {count} counters reset")


def _book() -> RuleBook:
    snapshot = DatabaseRules(db.engine).other_than(None)
    if snapshot is None:
        raise NotReady
    default = default_rule(settings().default_rate, settings().default_window)
    return RuleBook(snapshot, default=default, algorithm=settings().algorithm)
