"""Why a change was refused. Nothing was changed then; the message is one line for whoever asked."""

from __future__ import annotations


class Refused(Exception):
    """A change that cannot be made as things stand."""


class NotFound(Refused):
    """There is no such thing, or it is another tenant's, which must look the same."""


class Conflict(Refused):
    """Something else stands in the way."""


class Stale(Refused):
    """The thing has changed since the caller looked at it."""


class Busy(Refused):
    """Another change takes so long that this one could not begin."""


class Forbidden(Refused):
    """The caller may not do that."""
