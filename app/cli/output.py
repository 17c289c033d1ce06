"""Output of commands: tables for people, JSON for scripts."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import click

WIDEST = 60  # characters of a cell


def many(count: int, what: str) -> str:
    return f"{count} {what}{'s' * (count != 1)}"


def print_json(value: Any) -> None:
    click.echo(json.dumps(value, default=_json_default, ensure_ascii=False, indent=2))


def print_table(head: Sequence[str], rows: Iterable[Sequence[Any]], *, widest: int | None = WIDEST) -> None:
    for line in table(head, rows, widest=widest):
        click.echo(line)


def print_changes(changes: dict[str, dict[str, Any]], *, err: bool = False) -> None:
    for field, change in changes.items():
        click.echo(f"    {field}: {change['from']} -> {change['to']}", err=err)


def table(head: Sequence[str], rows: Iterable[Sequence[Any]], *, widest: int | None = WIDEST) -> list[str]:
    """The lines of a table. Columns are as wide as their texts; texts longer than `widest` are cut."""
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


def _json_default(value: Any) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


def shown_owner(client_id: str | None, group: str | None) -> str:
    """Return the client or the group of a rule."""
    return str(client_id) if group is None else f"group {group}"
