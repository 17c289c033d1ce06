"""What all commands share: errors are one line, answers are tables for people and JSON for scripts."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any, TypeVar

import click
from flask import current_app
from flask.cli import AppGroup
from marshmallow import ValidationError

from app.api.correlation import chosen
from app.api.error_messages import flat
from app.api.problems import DATABASE_ERRORS, Problem
from app.api.rule_files import FileError
from app.environment import SettingsError
from app.extensions import db
from app.limiter.errors import NotReady, StoreError
from app.rules.access import Tenant, Tenants
from app.rules.errors import NotFound, Refused
from app.rules.history import Author

Command = TypeVar("Command", bound=Callable[..., Any])

EXPECTED = (Refused, Problem, ValidationError, StoreError, NotReady, SettingsError, OSError, *DATABASE_ERRORS)


class Commands(AppGroup):
    """A group whose commands end with one line and exit code 1 where they cannot do what they should."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except EXPECTED as error:
            raise click.ClickException(_line(error)) from None


def as_json(command: Command) -> Command:
    """The option `--json`, as the argument `as_json`."""
    option: Command = click.option("--json", "as_json", is_flag=True, help="JSON instead of a table.")(command)
    return option


def of_tenant(command: Command) -> Command:
    """The option `--tenant`, as the argument `tenant`: a name."""
    option: Command = click.option("--tenant", default="default", show_default=True, help="The tenant's name.")(command)
    return option


def tenant_named(name: str) -> Tenant:
    tenant = Tenants(db.session()).named(name)
    if tenant is None:
        raise NotFound(f"there is no tenant {name}")
    return tenant


def author() -> Author:
    """Every run of a command is a request of its own."""
    return Author("cli", chosen(None))


def settings() -> Any:
    return current_app.extensions["ratelimiter"].settings


def say_json(value: Any) -> None:
    click.echo(json.dumps(value, default=_plain, ensure_ascii=False, indent=2))


def say_table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    for line in table(head, rows):
        click.echo(line)


def table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> list[str]:
    """The lines of a table: columns as wide as what stands in them."""
    lines = [head, *([_cell(value) for value in row] for row in rows)]
    widths = [max(len(line[place]) for line in lines) for place in range(len(head))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%S}"
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


def _plain(value: Any) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


def _line(error: BaseException) -> str:
    if isinstance(error, ValidationError):
        messages = error.normalized_messages()  # type: ignore[no-untyped-call]
        return "; ".join(str(FileError(path, message)) for path, message in flat(messages))
    if isinstance(error, DATABASE_ERRORS):
        return f"the database: {str(error).splitlines()[0]}"
    if isinstance(error, StoreError):
        return f"Redis: {error}"
    return str(error).splitlines()[0] if str(error) else type(error).__name__
