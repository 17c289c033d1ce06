"""Commands for deploys and incidents: `flask --app wsgi rules …`, `tenants …`, `keys …`, `counters …`, `version`."""

from __future__ import annotations

import click
from flask import Flask

from app.cli import access, counters, files, history, rules
from app.version import __version__


def init_app(app: Flask) -> None:
    for group in (rules.rules, access.tenants, access.keys, counters.counters):
        app.cli.add_command(group)
    app.cli.add_command(show_version)
    for more in (*files.COMMANDS, *history.COMMANDS):
        rules.rules.add_command(more)


@click.command("version")
def show_version() -> None:
    """Which release of the service this is."""
    click.echo(__version__)
