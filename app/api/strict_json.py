"""Parses JSON bodies strictly: one media type, no repeated members, bounded in depth and in values."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any, NoReturn

from app.api.error_messages import WHOLE
from app.api.problems import INVALID, Problem
from app.api.schemas import Repeating

# The usual spellings; Flask understands more.
JSON_TYPES = ("application/json", "application/json; charset=utf-8", "application/json;charset=utf-8")
# Objects and numbers that a body may have. The largest valid batch has 2,001. The margin lets the schema refuse a batch
# of too many checks. A body that is all brackets and commas costs 3 ms.
MAX_VALUES = 16_384


def require_json(media_type: str) -> None:
    """Raises Problem 415 for a body of another type."""
    if media_type != "application/json":
        # Without the type that was sent, which may hold a secret.
        raise Problem(415, "Content-Type must be application/json")


def parsed(raw: bytes, max_values: int = MAX_VALUES, where: str = WHOLE) -> Any:
    """The JSON value. Raises Problem 400, and 422 for more objects and numbers than `max_values`.

    `where`: the member to which the 422 assigns the error.
    """
    hooks = Hooks(max_values, where, "There are more than {} objects and numbers.")
    try:
        return json.loads(
            raw.decode("utf-8"), parse_int=hooks.integer, parse_constant=no_constant, object_pairs_hook=hooks.members
        )
    except UnicodeDecodeError:
        raise Problem(400, "the body is not UTF-8", kind="malformed-body") from None
    except RecursionError:
        raise Problem(400, "the body is nested too deeply", kind="malformed-body") from None
    except ValueError as error:
        # Python's message names the line and column.
        raise Problem(400, f"the body is not JSON: {error}", kind="malformed-body") from None


def no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


class Hooks:
    """Callbacks of the JSON parser for objects and numbers. A call costs as much as ten characters, so calls are
    counted.
    """

    def __init__(self, max_values: int, where: str, message: str) -> None:
        self._max = max_values
        self._errors = {where: [message.format(max_values)]}
        self.begin()

    def begin(self) -> None:
        """Restart the count."""
        self._left = self._max

    def integer(self, digits: str) -> int:
        """Python refuses integers of thousands of digits. No field takes more than ten, so twenty digits are enough to
        refuse.
        """
        self._count()
        return int(digits[:20])

    def members(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        self._count()
        members = dict(pairs)
        if len(members) == len(pairs):
            return members
        # Counter is linear: callers choose how many members an object has.
        [(name, _)] = Counter(name for name, _ in pairs).most_common(1)
        return Repeating(members, name)

    def _count(self) -> None:
        self._left -= 1
        if self._left < 0:
            raise Problem(422, INVALID, errors=self._errors)
