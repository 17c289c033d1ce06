"""The common parts of all commands: options, the operator, errors in one line."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import click
from flask import current_app
from flask.cli import ScriptInfo

from app.api.correlation import chosen
from app.cli.operator import operator
from app.cli.resources.context import end_transaction, session
from app.rules.errors import NotFound
from app.rules.sql.access.tenants import Tenant, Tenants
from app.rules.sql.history import Author

Decorated = TypeVar("Decorated", bound=Callable[..., Any])


class Command(click.Command):
    """A command that reports a failure in one line, with exit code 1."""

    def invoke(self, ctx: click.Context) -> Any:
        gc.enable()
        if not current_app:
            ctx.with_resource(ctx.ensure_object(ScriptInfo).load_app().app_context())
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort, BrokenPipeError):
            raise  # BrokenPipeError, of a reader such as `head` that has enough, ends the program silently
        except Exception as error:
            from app.cli.error_lines import error_line

            line = error_line(error)
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
    """Ask at the terminal, unless `yes`. Ends the command if the answer is no, or without a terminal.

    Ends the transaction before: a person takes longer than PostgreSQL lets one idle.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise click.ClickException(f"{question} Nothing was changed: without a terminal this needs --yes")
    end_transaction()
    click.confirm(question, abort=True, err=True)


def tenant_named(name: str) -> Tenant:
    tenant = Tenants(session()).named(name)
    if tenant is None:
        raise NotFound(f"there is no tenant {name}")
    return tenant
