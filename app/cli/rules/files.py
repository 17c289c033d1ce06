"""`flask rules import|export|validate|diff`: all rules of a tenant as a file."""

from __future__ import annotations

import re
import sys
from codecs import BOM_UTF8
from io import BytesIO
from pathlib import Path

import click

from app.api.admin.import_export.rule_files import InvalidRules, in_pieces, read_rules, write_rules
from app.api.admin.rules.rule_json import merge_answer
from app.api.admin.rules.rule_warnings import warnings_of_merge
from app.api.problems import Problem
from app.cli.command import agree, as_json, asking, by_operator, command, of_tenant, tenant_named
from app.cli.output import many, print_changes, print_json, shown_owner
from app.cli.progress import progress
from app.cli.resources.context import consistent_session, end_transaction, session, settings
from app.rules.rule import DEFAULT_LAYER, DEFAULT_TENANT_ID, Rule
from app.rules.sql.changes import RuleChanges
from app.rules.sql.history import Author
from app.rules.sql.merge import Merge
from app.rules.sql.repository import RuleRepository

FILE = click.argument("file", type=click.Path(path_type=Path, allow_dash=True, dir_okay=False))
REPLACE = click.option("--replace", is_flag=True, help="Also delete the rules that the file does not have.")
NOBODY = Author("-", "-")  # changes nothing
SIGNS = {"created": "+", "replaced": "~", "deleted": "-"}


@command("validate")
@FILE
def validate(file: Path) -> None:
    """Check a file of rules. Needs no server and no database: for a commit hook or a CI job."""
    count = len(_read(file, DEFAULT_TENANT_ID))
    click.echo(f"{file}: 1 rule, valid" if count == 1 else f"{file}: {count} rules, all valid")


@command("diff")
@FILE
@of_tenant
@REPLACE
@as_json
def diff(file: Path, tenant: str, replace: bool, as_json: bool) -> None:
    """Show what importing the file would change."""
    owner = _owner(tenant)
    _print(_compared(_read(file, owner), owner, replace), as_json)


@command("import")
@FILE
@of_tenant
@REPLACE
@click.option("--dry-run", is_flag=True, help="Say what would change, change nothing.")
@asking
@by_operator
@as_json
def import_rules(
    file: Path, tenant: str, replace: bool, dry_run: bool, yes: bool, author: Author, as_json: bool
) -> None:
    """Create or replace all rules of the file, or none of them. Asks before it deletes any."""
    owner = _owner(tenant)
    rules, agreed = _read(file, owner), None
    if dry_run:
        _print(_compared(rules, owner, replace, on_trial=True), as_json)
        return
    if replace and not yes:
        agreed = _compared(rules, owner, replace)
        if agreed.deleted:
            _print(agreed, False, err=True)
            agree(f"Delete {many(len(agreed.deleted), 'rule')} that {file} does not have?", yes)
    with progress(f"storing what changes of {many(len(rules), 'rule')}") as pace:
        merge = RuleChanges(session(), owner, author, pace).merge(rules, replace=replace, agreed=agreed)
    _print(merge, as_json)


@command("export")
@of_tenant
@click.option("--format", "kind", type=click.Choice(["yaml", "json"]), default="yaml", show_default=True)
def export(tenant: str, kind: str) -> None:
    """All rules of a tenant, as a file that `import` takes."""
    owner = _owner(tenant)
    with progress("reading the rules") as pace:
        rules = RuleRepository(consistent_session(), pace).rules(owner)
    end_transaction()
    with progress("writing the rules") as pace:
        for piece in in_pieces(write_rules(pace(rules), yaml=kind == "yaml")):
            click.echo(piece, nl=False)


def _owner(tenant: str) -> int:
    owner = tenant_named(tenant).id
    end_transaction()
    return owner


def _compared(rules: list[Rule], tenant_id: int, replace: bool, *, on_trial: bool = False) -> Merge:
    """The changes of an import. `on_trial`: ends the command where the import would."""
    with progress("comparing with the rules that are stored") as pace:
        changes = RuleChanges(consistent_session(), tenant_id, NOBODY, pace)
        merge = (changes.trial if on_trial else changes.compare)(rules, replace=replace)
    end_transaction()
    return merge


def _read(file: Path, tenant_id: int) -> list[Rule]:
    """The rules of the file. Ends the command with a line for each error."""
    with click.open_file(str(file), "rb") as opened:
        raw = opened.read()
    known = file.suffix in (".json", ".yaml", ".yml")
    yaml = file.suffix != ".json" if known else not raw.removeprefix(BOM_UTF8).lstrip().startswith(b"{")
    content = BytesIO(raw)
    try:
        with progress(f"reading {file}", lambda: f"{content.tell() * 100 // len(raw)} %") as pace:
            algorithm = settings().algorithm
            return read_rules(content, yaml=yaml, tenant_id=tenant_id, default_algorithm=algorithm, pace=pace)
    except Problem as problem:  # not JSON or YAML: the parser's message has the line
        line = re.search(r"\bline (\d+)", problem.detail)
        warnings = problem.detail.replace("the body", "the file", 1)
        click.echo(f"{file}:{line[1] if line else 1}: {warnings}", err=True)
    except InvalidRules as invalid:
        for error in invalid.errors:
            click.echo(f"{file}:{error.line or '?'}: {error}", err=True)
        if invalid.more:
            click.echo(f"{file}: and more", err=True)
    sys.exit(1)


def _print(merge: Merge, as_json: bool, *, err: bool = False) -> None:
    shown = merge_answer(merge)
    for warning in warnings_of_merge(merge):
        click.echo(warning, err=True)
    if as_json:
        print_json(shown)
        return
    for name, sign in SIGNS.items():
        for rule in shown[name]:
            kind = " (shadow)" if rule["shadow"] else ""
            layer = f" in {rule['layer']}" if rule["layer"] != DEFAULT_LAYER else ""
            owner = shown_owner(rule["client_id"], rule["group"])
            click.echo(f"{sign} {owner} {rule['endpoint'] or '*'}{layer}{kind}", err=err)
            if name == "replaced":
                print_changes(rule["changes"], err=err)
    click.echo(", ".join(f"{len(rules)} {name}" for name, rules in shown.items()), err=err)
