"""Times and durations as people type them: `yesterday`, `2h`, `2026-11-25T10:00`."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import click

UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
SPAN = re.compile(r"(\d{1,6}) ?(s|sec|second|m|min|minute|h|hour|d|day|w|week)s?( ago)?")
DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
ALLOWED_SPAN = "a number with s, m, h, d or w: 90s, 30m, 2h, 7d"
ALLOWED = "now, today, yesterday, a day of the week, 30m, 2h, 3d (ago), or ISO 8601: 2026-11-25, 2026-11-25T10:00:00Z"


class DurationType(click.ParamType):
    """A timedelta from 90s, 30m, 2h, 7d, or 0."""

    name = "DURATION"

    def convert(self, value: str | timedelta, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        if isinstance(value, timedelta):
            return value
        span = timedelta() if value == "0" else _span(value)
        if span is None:
            self.fail(f"{value!r}: allowed is {ALLOWED_SPAN}", param, ctx)
        return span


class MomentType(click.ParamType):
    """A datetime in UTC. Days begin at midnight UTC; a day of the week is the last one before today."""

    name = "TIME"

    def convert(self, value: str | datetime, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        found = value if isinstance(value, datetime) else moment(value, datetime.now(UTC))
        if found is None:
            self.fail(f"{value!r}: allowed is {ALLOWED}", param, ctx)
        return found


def moment(text: str, now: datetime) -> datetime | None:
    """The time of the text, in UTC; None if it is none."""
    word = text.strip().lower()
    today = now.replace(hour=0, minute=0, second=0, microsecond=0)
    if word in ("now", "today", "yesterday"):
        return {"now": now, "today": today, "yesterday": today - timedelta(days=1)}[word]
    if word in DAYS:
        return today - timedelta(days=(today.weekday() - DAYS.index(word) - 1) % 7 + 1)
    span = _span(word)
    try:
        found = now - span if span is not None else datetime.fromisoformat(text.strip())
        return found.replace(tzinfo=found.tzinfo or UTC).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _span(text: str) -> timedelta | None:
    found = SPAN.fullmatch(text.strip().lower())
    if found is None:
        return None
    return timedelta(**{UNITS[found[2][0]]: int(found[1])})
