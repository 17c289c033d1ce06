"""What all commands share: errors are one line, answers are tables for people and JSON for scripts."""

from __future__ import annotations

import gc
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any, TypeVar

import click
from flask import current_app
from flask.cli import ScriptInfo

from app.api.correlation import chosen
from app.cli.operator import operator
from app.cli.resources.context import rest, session
from app.rules.errors import NotFound
from app.rules.sql.access.tenants import Tenant, Tenants
from app.rules.sql.history import Author

Decorated = TypeVar("Decorated", bound=Callable[..., Any])

WIDEST = 60  # characters of a cell


class Command(click.Command):
    """Ends with one line and exit code 1 where it cannot do what it should."""

    def invoke(self, ctx: click.Context) -> Any:
        gc.enable()
        if not current_app:
            ctx.with_resource(ctx.ensure_object(ScriptInfo).load_app().app_context())
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort, BrokenPipeError):
            raise  # the last, of a reader such as `head` that has enough, ends the program without a word
        except Exception as error:
            from app.cli.error_lines import line_of

            line = line_of(error)
            if line is None:
                raise
            raise click.ClickException(line) from None


command = partial(click.command, cls=Command)


def as_json(command: Decorated) -> Decorated:
    """The option `--json`, as the argument `as_json`."""
    option: Decorated = click.option("--json", "as_json", is_flag=True, help="JSON instead of a table.")(command)
    return option


def of_tenant(command: Decorated) -> Decorated:
    """The option `--tenant`, as the argument `tenant`: a name."""
    option: Decorated = click.option("--tenant", default="default", show_default=True, help="The tenant's name.")(
        command
    )
    return option


def by_operator(command: Decorated) -> Decorated:
    """The option `--as`, as the argument `author`. Every run of a command is a request of its own."""
    option: Decorated = click.option(
        "--as",
        "author",
        metavar="NAME",
        envvar="SUDO_USER",
        callback=lambda _, __, name: Author(operator(name), chosen(None)),
        help="The operator's name, for the audit.  [default: the user of the shell]",
    )(command)
    return option


def asking(command: Decorated) -> Decorated:
    """The option `--yes`, as the argument `yes`, for `agree`."""
    option: Decorated = click.option("--yes", is_flag=True, help="Do not ask.")(command)
    return option


def agree(question: str, yes: bool) -> None:
    """Ask at the terminal, unless `yes`. Ends the command where the answer is no, or where nobody can be asked.

    Ends the transaction before: a person takes longer than PostgreSQL lets one idle.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise click.ClickException(f"{question} Nothing was changed: without a terminal this needs --yes")
    rest()
    click.confirm(question, abort=True, err=True)


def tenant_named(name: str) -> Tenant:
    tenant = Tenants(session()).named(name)
    if tenant is None:
        raise NotFound(f"there is no tenant {name}")
    return tenant


def many(count: int, what: str) -> str:
    return f"{count} {what}{'s' * (count != 1)}"


def say_json(value: Any) -> None:
    click.echo(json.dumps(value, default=_plain, ensure_ascii=False, indent=2))


def say_table(head: Sequence[str], rows: Iterable[Sequence[Any]], *, widest: int | None = WIDEST) -> None:
    for line in table(head, rows, widest=widest):
        click.echo(line)


def say_changes(changes: dict[str, dict[str, Any]], *, err: bool = False) -> None:
    for field, change in changes.items():
        click.echo(f"    {field}: {change['from']} -> {change['to']}", err=err)


def table(head: Sequence[str], rows: Iterable[Sequence[Any]], *, widest: int | None = WIDEST) -> list[str]:
    """The lines of a table: columns as wide as their texts, of which those longer than `widest` are cut."""
    lines = [head, *([_cut(_cell(value), widest) for value in row] for row in rows)]
    widths = [max(len(line[place]) for line in lines) for place in range(len(head))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, datetime):
        return f"{value.astimezone(UTC):%Y-%m-%d %H:%M:%S}"
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


def _cut(text: str, widest: int | None) -> str:
    return text if widest is None or len(text) <= widest else f"{text[: widest - 1]}…"


def _plain(value: Any) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)
