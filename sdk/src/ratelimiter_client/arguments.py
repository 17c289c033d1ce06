"""Arguments are looked at when something is made: later they would be failures, which a fail mode hides."""

from __future__ import annotations

import re
from typing import Any, Iterable

from ratelimiter_client.questions import MAX_AMOUNT

RATE = re.compile(r"\s*[0-9]+\s*(/|per)\s*[0-9]*\s*(sec|min|hour|day|month|year)", re.IGNORECASE)


def refuse_unless(fits: bool, name: str, given: object, allowed: str, error: type[Exception] = TypeError) -> None:
    """Raises `error`, which says what is allowed."""
    if not fits:
        raise error(f"{name} is {given!r}, allowed is {allowed}")


def limit_name(given: Any) -> str:
    """As it is. Code that comes from flask-limiter has a rate there, or nothing at all."""
    refuse_unless(isinstance(given, str), "limit_key", given, "a limit's name as text, as in limit('login')")
    is_name = not RATE.match(given)
    refuse_unless(is_name, "limit_key", given, "a limit's name: rates are the service's rules", ValueError)
    return str(given)


def pairs(given: Iterable[Any]) -> tuple[Any, ...]:
    """Of `identify` and `limit_key`: each text, or a function; one of them at least."""
    found = tuple(given)
    are_pairs = found and all(isinstance(pair, (tuple, list)) and len(pair) == 2 for pair in found)
    refuse_unless(bool(are_pairs), "limits", given, "a list of (identify, limit_key), not empty", ValueError)
    for who, what in found:
        refuse_unless(who is None or isinstance(who, str) or callable(who), "identify", who, "text or a function")
        refuse_unless(isinstance(what, str) or callable(what), "limit_key", what, "text or a function")
        if isinstance(what, str):
            limit_name(what)
    return found


def units(given: Any) -> Any:
    """Of a cost: a number, or a function."""
    if not callable(given):
        is_number = isinstance(given, int) and not isinstance(given, bool)
        refuse_unless(is_number, "cost", given, "an integer or a function")
        refuse_unless(0 <= given <= MAX_AMOUNT, "cost", given, f"0 to {MAX_AMOUNT}", ValueError)
    return given
