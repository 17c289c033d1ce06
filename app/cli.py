"""Commands for deploys and incidents: `flask --app wsgi rules …`."""

from __future__ import annotations

import json

import click
from flask import Flask
from flask.cli import AppGroup

from app.extensions import db
from app.rules import changes
from app.rules.repository import RuleRepository
from app.rules.rule import DEFAULT_TENANT_ID, Limit, Rule

rules = AppGroup("rules", help="Look at and load rules.")


def init_app(app: Flask) -> None:
    app.cli.add_command(rules)


@rules.command("load-examples")
def load_examples() -> None:
    """Store the example rules, once in the life of a database: a deleted example stays deleted."""
    stored = changes.load_examples(db.session())
    click.echo(f"{stored} example rules stored" if stored else "example rules: loaded before, nothing to do")


@rules.command("list")
@click.option("--json", "as_json", is_flag=True, help="One JSON array instead of a table.")
def list_rules(as_json: bool) -> None:
    """The rules of the default tenant."""
    stored = RuleRepository(db.session()).rules(DEFAULT_TENANT_ID)
    if as_json:
        click.echo(json.dumps([_row(rule) for rule in stored]))
        return
    click.echo(f"{'ID':>6}  {'CLIENT':<24}  {'ENDPOINT':<16}  {'ACTION':<6}  LIMITS")
    for rule in stored:
        limits = ", ".join(_limit(limit) for limit in rule.limits)
        click.echo(f"{rule.id:>6}  {rule.client_id:<24}  {rule.endpoint or '*':<16}  {rule.action:<6}  {limits}")


def _row(rule: Rule) -> dict[str, object]:
    return {
        "id": rule.id,
        "client_id": rule.client_id,
        "endpoint": rule.endpoint,
        "action": rule.action,
        "limits": [_limit(limit) for limit in rule.limits],
    }


def _limit(limit: Limit) -> str:
    return f"{limit.rate}/{limit.window}s" + (f" {limit.algorithm}" if limit.algorithm else "")
