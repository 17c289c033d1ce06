"""ETag, If-Match and If-None-Match: a change that was meant for another state of the rule is refused (412)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from flask import request
from flask_smorest import Blueprint

from app.rules.rule import Rule

IF_MATCH = {
    "in": "header",
    "name": "If-Match",
    "schema": {"type": "string"},
    "description": "the ETag of the rule as the caller knows it, or *; else 412",
}
IF_NONE_MATCH = {
    "in": "header",
    "name": "If-None-Match",
    "schema": {"type": "string"},
    "description": "* where there must be no such rule yet, or the ETag of a version that it must not be at; else 412",
}

View = TypeVar("View", bound=Callable[..., Any])


def etag_of(version: int) -> dict[str, str]:
    """The ETag header for this version of a rule."""
    return {"ETag": f'"{version}"'}


class Precondition:
    """The request's If-Match and If-None-Match; without them every state is accepted. Weak tags never match If-Match.

    `before`: the rule of the last call, which is the state before the change.
    """

    def __init__(self) -> None:
        self.before: Rule | None = None
        self._match = request.if_match if "If-Match" in request.headers else None
        self._none_match = request.if_none_match if "If-None-Match" in request.headers else None

    def __call__(self, rule: Rule | None) -> bool:
        self.before = rule
        return self.holds(None if rule is None else str(rule.version))

    def holds(self, tag: str | None) -> bool:
        """Whether the preconditions accept a resource with this tag; None: the resource does not exist."""
        if self._match is not None and (tag is None or not self._match.contains(tag)):
            return False
        return self._none_match is None or tag is None or not self._none_match.contains_weak(tag)

    def holds_of_any(self, exists: bool) -> bool:
        """Whether the preconditions accept a resource without versions: only * matches one that exists."""
        return self.holds("" if exists else None)


def conditional(view: View) -> View:
    """Document the two request headers of the view."""
    documented: View = Blueprint.doc(parameters=[IF_MATCH, IF_NONE_MATCH])(view)
    return documented


def with_etag(rule: Rule, body: Any) -> tuple[Any, int, dict[str, str]]:
    """An answer about a rule, with its ETag."""
    return body, 200, etag_of(rule.version)
