"""`flask limited`: the clients that run into their limits."""

from __future__ import annotations

import time
from types import SimpleNamespace

import click

from app.cli.command import as_json, command, of_tenant, tenant_named
from app.cli.output import print_json, print_table
from app.cli.resources.context import session, store
from app.cli.rules.client_rules import book_of
from app.cli.rules.table import shown_limits
from app.limiter.denied_clients import DeniedClients
from app.rules.rule import Rule
from app.rules.sql.repository import RuleRepository

HEAD = ("CLIENT", "DENIED", "BY RULE", "OF CLIENT", "ENDPOINT", "ACTION", "LIMITS")


@command("limited")
@click.option("--contains", default="", help="Only clients with this text in their id.")
@of_tenant
@as_json
def limited(contains: str, tenant: str, as_json: bool) -> None:
    """The clients denied most in the last hour on all nodes, at most 100, and by which rules. Some seconds late."""
    tenant_id, book = tenant_named(tenant).id, book_of()
    clients = DeniedClients(store=store(), rules=SimpleNamespace(book=book), clock=time.time)
    most = clients.most(tenant_id, contains)
    if as_json:
        print_json([entry._asdict() | {"rule_id": entry.rule_id or "default"} for entry in most])
        return
    stored = RuleRepository(session()).of_ids(sorted({entry.rule_id for entry in most}))
    rules = {rule.id: rule for rule in stored} | {0: book.match(tenant_id, "", "")}
    print_table(HEAD, ((entry.client_id, entry.denied, *_described(entry.rule_id, rules)) for entry in most))


def _described(rule_id: int, rules: dict[int, Rule]) -> tuple[object, ...]:
    rule = rules.get(rule_id)
    if rule is None:
        return rule_id, "(deleted)", None, None, None
    return rule.public_id, rule.pattern, rule.endpoint, rule.action, shown_limits(rule)
