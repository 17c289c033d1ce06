"""Refusals of a change. The change has no effect; the message is one line for the caller."""

from __future__ import annotations


class Refused(Exception):
    """A change that is impossible in the current state. `kind` for programs: see app/api/problem_kinds.py."""

    kind = ""

    def __init__(self, message: str, kind: str | None = None) -> None:
        super().__init__(message)
        self.kind = kind or self.kind


class NotFound(Refused):
    """The object does not exist, or belongs to another tenant, which must look the same."""

    kind = "not-found"


class Conflict(Refused):
    """Another object is in the way."""

    kind = "conflict"


class Stale(Refused):
    """The object has changed since the caller read it."""

    kind = "stale"


class Busy(Refused):
    """Another change takes so long that this one could not begin."""

    kind = "busy"


class Forbidden(Refused):
    """The caller lacks the right to do this."""

    kind = "key-bound"
