"""The fields of a rule as options."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from app.rules.rule import ACTIONS, ALGORITHMS, FAIL_MODES

Decorated = TypeVar("Decorated", bound=Callable[..., Any])

DEFAULT = "default"  # a choice of these fields: the value of the settings
OF_SETTINGS = ("algorithm", "fail_mode")


class LimitType(click.ParamType):
    """RATE/WINDOW, optionally followed by /ALGORITHM and /BURST."""

    name = "RATE/WINDOW[/ALGORITHM[/BURST]]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> dict[str, Any]:
        try:
            parts = value.split("/")
            rate, window, algorithm, burst = parts + [""] * max(0, 4 - len(parts))
            limit: dict[str, Any] = {"rate": int(rate), "window": int(window)}
            return limit | {"algorithm": algorithm or None, "burst": int(burst) if burst else None}
        except ValueError:
            self.fail(f"{value!r} is not {self.name}", param, ctx)


OPTIONS = (
    click.option("--layer", help="The layer; every layer decides by one rule."),
    click.option("--shared/--not-shared", default=None, help="One counter for all its clients, or each group value."),
    click.option("--rate", type=int, help="Units of the first limit."),
    click.option("--window", type=int, help="Seconds of the first limit."),
    click.option("--algorithm", type=click.Choice([*ALGORITHMS, DEFAULT])),
    click.option("--burst", type=int, help="0: none."),
    click.option("--limit", "limits", type=LimitType(), multiple=True, help="All limits instead; repeatable."),
    click.option("--action", type=click.Choice(ACTIONS)),
    click.option("--fail-mode", type=click.Choice([*FAIL_MODES, DEFAULT])),
    click.option("--description"),
)


def single_fields(command: Decorated) -> Decorated:
    """Options for the fields of a rule; `sent` turns them into the members of an HTTP request."""
    for option in reversed(OPTIONS):
        command = option(command)
    return command


def sent(options: dict[str, Any]) -> dict[str, Any]:
    """The fields that were given."""
    fields = {name: value for name, value in options.items() if value not in (None, ())}
    if disabled := fields.pop("disabled", None):
        fields["enabled"] = not disabled
    fields |= {name: None for name in OF_SETTINGS if fields.get(name) == DEFAULT}
    if "burst" in fields:
        fields["burst"] = fields["burst"] or None
    if "limits" in fields:
        fields["limits"] = list(fields["limits"])
    return fields
