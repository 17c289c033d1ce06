"""Commands for deploys and incidents: `flask --app wsgi rules …`, `tenants …`, `keys …`, `counters …`."""

from __future__ import annotations

from flask import Flask

from app.cli import access, counters, files, history, rules


def init_app(app: Flask) -> None:
    for group in (rules.rules, access.tenants, access.keys, counters.counters):
        app.cli.add_command(group)
    for more in (*files.COMMANDS, *history.COMMANDS):
        rules.rules.add_command(more)
