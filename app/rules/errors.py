"""Why a change was refused. Nothing was changed then; the message is one line for whoever asked."""

from __future__ import annotations


class Refused(Exception):
    """A change that cannot be made as things stand. `kind`: as app/api/problem_kinds.py has it, for programs."""

    kind = ""

    def __init__(self, message: str, kind: str | None = None) -> None:
        super().__init__(message)
        self.kind = kind or self.kind


class NotFound(Refused):
    """There is no such thing, or it is another tenant's, which must look the same."""

    kind = "not-found"


class Conflict(Refused):
    """Something else stands in the way."""

    kind = "conflict"


class Stale(Refused):
    """The thing has changed since the caller looked at it."""

    kind = "stale"


class Busy(Refused):
    """Another change takes so long that this one could not begin."""

    kind = "busy"


class Forbidden(Refused):
    """The caller may not do that."""

    kind = "key-bound"
