"""`flask counters show|reset`: counters of a client, of a group or of a shared rule, and their reset."""

from __future__ import annotations

from typing import Any

import click

from app.api.admin.counter_json import counters_meant, forget, reading_answer
from app.api.admin.counter_schemas import CounterQuerySchema, ResetSchema
from app.cli.command import as_json, by_operator, command, of_tenant, tenant_named
from app.cli.output import print_json, print_table
from app.cli.resources.context import session, store
from app.cli.rules.client_rules import book_of, book_of_client
from app.limiter.counters import Counters, limits_of
from app.rules.matching.explanation import hidden
from app.rules.rule_book import RuleBook
from app.rules.sql.history import Author
from app.rules.sql.repository import RuleRepository

COLUMNS = {
    "RULE": "rule_id",
    "CLIENT": "whose",
    "ENDPOINT": "endpoint",
    "LAYER": "layer",
    "RATE": "rate",
    "WINDOW": "window",
    "ALGORITHM": "algorithm",
    "LEFT": "remaining",
    "OF": "limit",
    "SHARED": "shared",
    "SHADOW": "shadow",
}


def whose(command: Any) -> Any:
    """The argument and options that say whose counters are meant, as `client_id`, `groups` and `rule_id`."""
    rule = click.option("--rule", "rule_id", type=int, help="A shared rule of clients, by its id.")
    told = "A group of the client (repeatable). Without CLIENT_ID: the group that shares the counters."
    group = click.option("--group", "groups", multiple=True, metavar="GROUP", help=told)
    return click.argument("client_id", required=False)(group(rule(command)))


@command("show")
@whose
@of_tenant
@as_json
def show_counters(
    client_id: str | None, groups: tuple[str, ...], rule_id: int | None, tenant: str, as_json: bool
) -> None:
    """Show what the client has left, by every rule that can decide a check of it.

    With --group or --rule instead of CLIENT_ID: what those have left that share a counter.
    """
    asked = CounterQuerySchema().load(_asked(client_id, groups, rule_id))
    tenant_id = tenant_named(tenant).id
    book = _book(tenant_id, asked)
    counters = Counters(store(), book, tenant_id)
    _, meant = counters_meant(counters, book, tenant_id, asked)
    never = set() if client_id is None else hidden(book.candidates(tenant_id, client_id, asked["groups"]))
    limits = limits_of(each for each in meant if each.rule.id not in never)
    readings = [reading_answer(reading) for reading in counters.read(limits)]
    if as_json:
        print_json(readings)
    else:
        rows = (reading | {"whose": reading["client_id"] or f"group {reading['group']}"} for reading in readings)
        print_table(tuple(COLUMNS), ([row[name] for name in COLUMNS.values()] for row in rows))


@command("reset")
@whose
@click.option("--limit-key", help="Of the client: only under the rules that decide this key.")
@of_tenant
@by_operator
def reset_counters(
    client_id: str | None,
    groups: tuple[str, ...],
    rule_id: int | None,
    limit_key: str | None,
    tenant: str,
    author: Author,
) -> None:
    """Forget what the client has consumed, on every worker within a second.

    With --group or --rule instead of CLIENT_ID: what all have consumed that share a counter.
    """
    sent = _asked(client_id, groups, rule_id) | ({} if limit_key is None else {"limit_key": limit_key})
    asked = ResetSchema().load(sent)
    tenant_id = tenant_named(tenant).id
    book = _book(tenant_id, asked)
    subject, count = forget(session(), store(), book, tenant_id=tenant_id, asked=asked, by=author)
    click.echo(f"{subject}: {count} counters reset")


def _asked(client_id: str | None, groups: tuple[str, ...], rule_id: int | None) -> dict[str, Any]:
    """As the schemas load it. Ends the command where several groups stand without a client."""
    if client_id is None and len(groups) > 1:
        raise click.UsageError("without CLIENT_ID, --group names the one group that shares the counters")
    fields: dict[str, Any] = {"client_id": client_id, "rule_id": rule_id}
    if groups:
        fields |= {"group": groups[0]} if client_id is None else {"groups": list(groups)}
    return {name: value for name, value in fields.items() if value is not None}


def _book(tenant_id: int, asked: dict[str, Any]) -> RuleBook:
    """A book of the rules that may be meant: few of thousands."""
    if "rule_id" in asked:
        rule = RuleRepository(session()).get(tenant_id, asked["rule_id"])
        return book_of(*([] if rule is None else [rule]))
    return book_of_client(tenant_id, asked.get("client_id", ""))
