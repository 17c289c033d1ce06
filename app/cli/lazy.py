"""Commands that are listed by name, and imported when they are run."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

import click


class LazyCommand(click.Command):
    """Stands for a command of app/cli/. `place`: module and name."""

    def __init__(self, name: str, place: str, help: str) -> None:
        super().__init__(name, help=help)
        self._module, _, self._command = place.partition(":")

    @property
    def command(self) -> click.Command:
        """The command itself."""
        found: click.Command = getattr(import_module(f"app.cli.{self._module}"), self._command)
        return found

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """Make the context of the real command: click goes on with that one."""
        return self.command.make_context(info_name, args, parent, **extra)


class Migrations(click.Command):
    """Flask-Migrate's `db`, which needs the whole service."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """Make the context of the real command: click goes on with that one."""
        from app.environment import SettingsError

        try:
            app = import_module("app").create_app()
        except SettingsError as error:
            sys.exit(str(error))
        if parent is not None:
            parent.with_resource(app.app_context())
        migrations: click.Command = app.cli.commands["db"]
        return migrations.make_context(info_name, args, parent, **extra)
