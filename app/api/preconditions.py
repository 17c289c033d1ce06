"""ETag and If-Match: a change that was meant for a version that is no longer there is refused (412)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from flask import request
from flask_smorest import Blueprint

from app.rules.changes import Expected, anything
from app.rules.rule import Rule

IF_MATCH = {
    "in": "header",
    "name": "If-Match",
    "schema": {"type": "string"},
    "description": "the ETag of the rule as the caller knows it, or *; else 412",
}

View = TypeVar("View", bound=Callable[..., Any])


def etag_of(version: int) -> dict[str, str]:
    """The header of an answer that shows this version of a rule."""
    return {"ETag": f'"{version}"'}


def expected() -> Expected:
    """What the request's If-Match says; anything goes without one. Weak tags never match."""
    if "If-Match" not in request.headers:
        return anything
    tags = request.if_match
    return lambda rule: rule is not None and tags.contains(str(rule.version))


def conditional(view: View) -> View:
    """Document If-Match."""
    documented: View = Blueprint.doc(parameters=[IF_MATCH])(view)
    return documented


def shown(rule: Rule, body: Any) -> tuple[Any, int, dict[str, str]]:
    """An answer about a rule, with its ETag."""
    return body, 200, etag_of(rule.version)
