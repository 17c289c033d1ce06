"""Messages about invalid input: field -> messages, nested like the input, of bounded size."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

MAX_ERRORS = 100  # messages shown for a request or a file
MAX_MESSAGES_BYTES = 16 * 1024  # of all names and messages in JSON, whose escapes take up to 12 bytes a character
MAX_SHOWN_NAME, MAX_MESSAGE = 64, 300  # characters; the caller chooses an unknown name, and it may fill the body
WHOLE = "_schema"  # in place of a name: the error concerns the object itself

Path = list[Any]  # member names and indices


def bounded_messages(messages: Any) -> dict[str, Any]:
    """The first MAX_ERRORS of marshmallow's nested messages, cut off at MAX_MESSAGES_BYTES."""
    return nested(_bounded(flat(messages)))


def flat(messages: Any) -> Iterator[tuple[Path, str]]:
    """The messages one by one, each with the path of its field."""
    if isinstance(messages, dict):
        for name, inner in messages.items():
            for path, message in flat(inner):
                yield [name, *path], message
    else:
        for message in messages if isinstance(messages, list) else [messages]:
            yield [], str(message)


def nested(errors: Iterable[tuple[Path, str]]) -> dict[str, Any]:
    """The reverse of `flat`; indices become member names, as in JSON objects."""
    nest: dict[str, Any] = {}
    for path, message in errors:
        *way, last = [str(step) for step in path] or [WHOLE]
        at = nest
        for step in way:
            at = _object(at, step)
        if isinstance(at.get(last), dict):
            at, last = _object(at, last), WHOLE
        at.setdefault(last, []).append(message)
    return nest


def cut(text: str, maximum: int) -> str:
    return text if len(text) <= maximum else text[: maximum - 1] + "…"


def _object(at: dict[str, Any], name: str) -> dict[str, Any]:
    inner: dict[str, Any] | list[str] = at.setdefault(name, {})
    if isinstance(inner, list):  # messages about the whole, found first
        inner = at[name] = {WHOLE: inner}
    return inner


def _bounded(errors: Iterable[tuple[Path, str]]) -> Iterator[tuple[Path, str]]:
    left = MAX_MESSAGES_BYTES
    for path, message in islice(errors, MAX_ERRORS):
        names, text = [cut(str(step), MAX_SHOWN_NAME) for step in path], cut(message, MAX_MESSAGE)
        left -= len(json.dumps([names, text]))
        if left < 0:
            return
        yield names, text
