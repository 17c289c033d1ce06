"""`flask rules import|export|validate|diff`: all rules of a tenant as a file."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import click
from flask.cli import with_appcontext

from app.api.bodies import MAX_BYTES_OF_IMPORT
from app.api.problems import Problem
from app.api.rule_files import InvalidRules, read_rules, write_rules
from app.api.transfer import shown_merge
from app.cli.commands import as_json, author, of_tenant, say_json, settings, tenant_named
from app.extensions import db
from app.rules.changes import Merge, RuleChanges
from app.rules.repository import RuleRepository
from app.rules.rule import DEFAULT_TENANT_ID, Rule

FILE = click.argument("file", type=click.Path(path_type=Path, allow_dash=True, dir_okay=False))
REPLACE = click.option("--replace", is_flag=True, help="Also delete the rules that the file does not have.")
SIGNS = {"created": "+", "replaced": "~", "deleted": "-"}


@click.command("validate")
@FILE
@with_appcontext
def validate(file: Path) -> None:
    """Check a file of rules. Needs no server and no database: for a commit hook or a CI job."""
    count = len(_read(file, DEFAULT_TENANT_ID))
    click.echo(f"{file}: 1 rule, valid" if count == 1 else f"{file}: {count} rules, all valid")


@click.command("diff")
@FILE
@of_tenant
@REPLACE
@as_json
@with_appcontext
def diff(file: Path, tenant: str, replace: bool, as_json: bool) -> None:
    """What importing the file would change."""
    owner = tenant_named(tenant).id
    _say(RuleChanges(db.session(), owner, author()).compare(_read(file, owner), replace=replace), as_json)


@click.command("import")
@FILE
@of_tenant
@REPLACE
@click.option("--dry-run", is_flag=True, help="Say what would change, change nothing.")
@as_json
@with_appcontext
def import_rules(file: Path, tenant: str, replace: bool, dry_run: bool, as_json: bool) -> None:
    """Create or replace all rules of the file, or none of them."""
    owner = tenant_named(tenant).id
    rules, changes = _read(file, owner), RuleChanges(db.session(), owner, author())
    _say(changes.compare(rules, replace=replace) if dry_run else changes.merge(rules, replace=replace), as_json)


@click.command("export")
@of_tenant
@click.option("--format", "kind", type=click.Choice(["yaml", "json"]), default="yaml", show_default=True)
@with_appcontext
def export(tenant: str, kind: str) -> None:
    """All rules of a tenant, as a file that `import` takes."""
    rules = RuleRepository(db.session()).rules(tenant_named(tenant).id)
    click.echo(write_rules(rules, yaml=kind == "yaml"), nl=False)


COMMANDS = (validate, diff, import_rules, export)


def _read(file: Path, tenant_id: int) -> list[Rule]:
    """The rules of the file. Ends the command with a line for each thing that is wrong."""
    with click.open_file(str(file), "rb") as opened:
        raw = opened.read(MAX_BYTES_OF_IMPORT + 1)
    if len(raw) > MAX_BYTES_OF_IMPORT:
        raise click.ClickException(f"{file} has more than {MAX_BYTES_OF_IMPORT} bytes")
    yaml = (
        not raw.lstrip().startswith(b"{") if file.suffix not in (".json", ".yaml", ".yml") else file.suffix != ".json"
    )
    try:
        return read_rules(raw, yaml=yaml, tenant_id=tenant_id, default_algorithm=settings().algorithm)
    except Problem as problem:  # no JSON or YAML at all: what its parser says has the line in it
        line = re.search(r"\bline (\d+)", problem.detail)
        told = problem.detail.replace("the body", "the file", 1)
        click.echo(f"{file}:{line[1] if line else 1}: {told}", err=True)
    except InvalidRules as invalid:
        for error in invalid.errors:
            click.echo(f"{file}:{error.line or '?'}: {error}", err=True)
        if invalid.more:
            click.echo(f"{file}: and more", err=True)
    sys.exit(1)


def _say(merge: Merge, as_json: bool) -> None:
    shown = shown_merge(merge)
    if as_json:
        say_json(shown)
        return
    for name, sign in SIGNS.items():
        for rule in shown[name]:
            click.echo(f"{sign} {rule['client_id']} {rule['endpoint'] or '*'}{' (shadow)' if rule['shadow'] else ''}")
            if name == "replaced":
                say_changes(rule["changes"])
    click.echo(", ".join(f"{len(rules)} {name}" for name, rules in shown.items()))


def say_changes(changes: dict[str, dict[str, Any]]) -> None:
    for field, change in changes.items():
        click.echo(f"    {field}: {change['from']} -> {change['to']}")
