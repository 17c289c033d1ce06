"""From bytes to valid checks, or to a Problem that says what is wrong."""

from __future__ import annotations

import json
from collections import Counter
from functools import lru_cache
from typing import Any, NoReturn

from marshmallow import Schema, ValidationError

from app.api.compiled import plain_batch, plain_check
from app.api.problems import Problem
from app.api.schemas import BatchSchema, CheckSchema, Repeating
from app.limiter.decision import Check

_CHECK = CheckSchema()
_BATCH = BatchSchema()


# Who is denied asks the same again, to the byte. At most half a megabyte.
_recent_check = lru_cache(maxsize=1024)(plain_check)
SHORT = 512


# As clients write it; Flask understands more spellings.
JSON_TYPES = ("application/json", "application/json; charset=utf-8", "application/json;charset=utf-8")


def decode_check(raw: bytes) -> Check:
    """One check. Raises Problem 400 (not JSON) or 422 (not a valid check)."""
    plain = _recent_check(raw) if len(raw) <= SHORT else plain_check(raw)
    return plain or Check(**_valid(_CHECK, raw))


def decode_batch(raw: bytes) -> list[Check]:
    """The checks of a batch; one invalid item refuses all. Raises Problem 400 or 422."""
    return plain_batch(raw) or [Check(**item) for item in _valid(_BATCH, raw)["checks"]]


def _valid(schema: Schema, raw: bytes) -> Any:
    try:
        return schema.load(parsed(raw))
    except ValidationError as error:
        raise Problem(422, "the request is not valid", errors=dict(error.messages_dict)) from None


def require_json(media_type: str) -> None:
    """Raises Problem 415 for a body of another type."""
    if media_type != "application/json":
        raise Problem(415, f"Content-Type is {media_type or 'missing'}, allowed is application/json")


def parsed(raw: bytes) -> Any:
    """The JSON value. Raises Problem 400."""
    try:
        return json.loads(
            raw.decode("utf-8"), parse_int=_integer, parse_constant=_no_constant, object_pairs_hook=_members
        )
    except UnicodeDecodeError:
        raise Problem(400, "the body is not UTF-8") from None
    except RecursionError:
        raise Problem(400, "the body is nested too deeply") from None
    except ValueError as error:
        # Python's message names the place.
        raise Problem(400, f"the body is not JSON: {error}") from None


def _integer(digits: str) -> int:
    """No field takes more than ten digits, so twenty are as much too many as thousands, which Python refuses."""
    return int(digits[:20])


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) == len(pairs):
        return members
    # Linear: callers choose how many members an object has.
    [(name, _)] = Counter(name for name, _ in pairs).most_common(1)
    return Repeating(members, name)
