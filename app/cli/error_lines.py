"""Errors in one line. Commands import this only after an error."""

from __future__ import annotations

from marshmallow import ValidationError

from app.api.admin.import_export.rule_files import FileError
from app.api.error_messages import flat
from app.api.problems import Problem
from app.environment import SettingsError
from app.limiter.errors import NotReady, StoreError
from app.rules.errors import Refused
from app.rules.sql.database.engine import DATABASE_ERRORS

EXPECTED = (Refused, Problem, ValidationError, StoreError, NotReady, SettingsError, OSError, *DATABASE_ERRORS)


def error_line(error: Exception) -> str | None:
    """The line of an expected error; None if the error is a bug."""
    if not isinstance(error, EXPECTED):
        return None
    if isinstance(error, ValidationError):
        messages = error.normalized_messages()  # type: ignore[no-untyped-call]
        return "; ".join(str(FileError(path, message)) for path, message in flat(messages))
    if isinstance(error, DATABASE_ERRORS):
        return f"the database: {str(error).splitlines()[0]}"
    if isinstance(error, StoreError):
        return f"Redis: {error}"
    return str(error).splitlines()[0] if str(error) else type(error).__name__
