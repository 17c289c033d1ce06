"""The resources of commands: settings, a database session, Redis. Each is made on its first use."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click
from flask import current_app

if TYPE_CHECKING:
    from app.config import Settings
    from app.limiter.topology import AnyStore


class CommandContext:
    """The context of one application. `settle_seconds`: the time that deleting a tenant waits for the workers; None:
    the default.
    """

    def __init__(self, settings: Settings | None) -> None:
        self._settings = settings
        self.settle_seconds: float | None = None

    @property
    def settings(self) -> Settings:
        if self._settings is None:
            self._settings = _settings()
        return self._settings


def command_context() -> CommandContext:
    found: CommandContext = current_app.extensions["commands"]
    return found


def settings() -> Settings:
    """The settings of the environment, without a look at the address of Redis. Ends the command if one is wrong."""
    return command_context().settings


def session() -> Any:
    """The command's session. It ends with the command."""
    from app.config import NO_DATABASE
    from app.rules.sql.database.engine import session_on

    context = click.get_current_context().find_root()
    if "session" not in context.meta:
        url = settings().database_url
        if url is None:
            looked = f"no `make run` is running on DATA_DIR={settings().data_dir}"
            raise click.ClickException(f"{NO_DATABASE}; and {looked}")
        context.meta["session"] = context.with_resource(session_on(url))
    return context.meta["session"]


def end_transaction() -> None:
    """End the transaction, if there is one: it must not stay idle during long work."""
    context = click.get_current_context().find_root()
    if "session" in context.meta:
        context.meta["session"].rollback()


def consistent_session() -> Any:
    """The session, in a new transaction that sees one consistent state of all rules."""
    from app.rules.sql.repository import in_one_state

    end_transaction()
    return in_one_state(session())


def store() -> AnyStore:
    """Redis, over connections that end with the command. No check waits for it."""
    from app.cli.resources.redis import connected

    context = click.get_current_context().find_root()
    if "store" not in context.meta:
        context.meta["store"] = context.with_resource(connected(settings().redis_url))
    found: AnyStore = context.meta["store"]
    return found


def _settings() -> Settings:
    from app.cli.resources.devstack_servers import settings_of_command
    from app.config import Settings
    from app.environment import SettingsError
    from app.observability import logs

    try:
        settings = settings_of_command(Settings.from_env(redis=False))
    except SettingsError as error:
        sys.exit(str(error))
    logs.configure(settings.log_level, settings.log_format)
    return settings
