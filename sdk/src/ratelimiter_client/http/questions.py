"""Request bodies: valid for the service, whatever values the application passes."""

from __future__ import annotations

import hashlib
import json
import operator
import re
from typing import Any, Callable, Iterable, Iterator, NamedTuple
from urllib.parse import quote
from uuid import UUID

from ratelimiter_client.decision import Check, Decision, denied

MAX_CLIENT_ID = 256
MAX_LIMIT_KEY = 128
MAX_GROUP = 128
MAX_GROUPS = 8
MAX_AMOUNT = 10**9
MAX_BITS = 256  # of integers used as names
MAX_TTL_MS = 3_600_000
MAX_BATCH = 1000
MAX_BATCH_BYTES = 250_000
UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
TOKEN = re.compile(r"[A-Za-z0-9._-]{1,64}")
LEASE_ID = re.compile(r"[\x21-\x7e]{1,256}")
TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")

encoded: Callable[[Any], str] = json.JSONEncoder(separators=(",", ":")).encode  # ASCII


class Question(NamedTuple):
    """A check as it is sent: a JSON object in ASCII, and the limit key in it. `again`: it may be sent twice."""

    text: str
    limit_key: str
    again: bool


def literal(name: str, value: object, most: int) -> str:
    """The text to send for a name: text, an integer or a UUID. Raises TypeError for anything else.

    A name that the service would refuse (empty, longer than `most` characters, or with control characters) is sent as
    its SHA-256 digest. Names often come from strangers, who must not escape their limit by such a name.
    """
    if type(value) is not str:
        value = _text(name, value)
    if 0 < len(value) <= most and (value.isprintable() or not UNPRINTABLE.search(value)):
        return value
    return "sha256:" + _digest(value)


def _text(name: str, value: object) -> str:
    """Uses `isinstance`, not `type`: a framework's proxy of a text counts as text."""
    if isinstance(value, str):
        return str.__str__(value) if issubclass(type(value), str) else str(value)  # str() of an Enum would be its name
    if isinstance(value, int) and not isinstance(value, bool):
        number = int(value)
        return str(number) if number.bit_length() < MAX_BITS else hex(number)
    if isinstance(value, UUID):
        return str(value)
    raise TypeError(f"{name} is {type(value).__name__}, allowed is text, an integer or a UUID")


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def integer(name: str, value: object) -> int:
    """A plain int of any size. Raises TypeError for anything else than an integer, and for a bool."""
    if type(value) is int:
        return value
    if isinstance(value, bool) or not hasattr(type(value), "__index__"):
        raise TypeError(f"{name} is {type(value).__name__}, allowed is an integer")
    return int.__index__(operator.index(value))  # type: ignore[arg-type]


def is_integer(value: object, low: int, high: int) -> bool:
    """Whether the value is an integer of that range. A bool is none, though Python treats it as one."""
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def milliseconds(name: str, seconds: Any, high: int) -> int:
    """Milliseconds, at least one. Raises TypeError for no number of seconds, ValueError for too few or too many."""
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
        raise TypeError(f"{name} is {type(seconds).__name__}, allowed is a number of seconds")
    if not 0.0005 < seconds <= high / 1000:
        raise ValueError(f"{name} is {seconds!r}, allowed is 0.001 to {high / 1000:g} seconds")
    return round(seconds * 1000)


def lease_path(lease_id: object) -> str:
    """The lease id as part of a path. Raises TypeError or ValueError for an invalid id."""
    if not isinstance(lease_id, str):
        raise TypeError(f"lease_id is {type(lease_id).__name__}, allowed is text")
    if not LEASE_ID.fullmatch(lease_id):
        raise ValueError("lease_id has other characters than 1 to 256 of visible ASCII")
    return quote(lease_id, safe="")


def names(client_id: object, limit_key: object) -> dict[str, Any]:
    """The members that name the client and the limit. Raises TypeError."""
    return {
        "client_id": literal("client_id", client_id, MAX_CLIENT_ID),
        "limit_key": literal("limit_key", limit_key, MAX_LIMIT_KEY),
    }


def group_names(groups: object) -> tuple[str, ...]:
    """The groups to send, each once; as `literal`. None: no groups. Raises TypeError for anything but a list or tuple.

    Their order is their precedence, so a set is refused.
    """
    if groups is None:
        return ()
    if not isinstance(groups, (list, tuple)):
        raise TypeError(f"groups is {type(groups).__name__}, allowed is a list or a tuple of texts, integers and UUIDs")
    return tuple(dict.fromkeys(literal("groups", group, MAX_GROUP) for group in groups))


def bounded_groups(groups: object) -> tuple[str, ...] | Decision:
    """The groups to send, or the denial of more than the service takes. Raises TypeError."""
    named = group_names(groups)
    return named if len(named) <= MAX_GROUPS else denied("groups_out_of_range")


def amount(name: str, value: object, low: int) -> int | Decision:
    """Units, or the denial where they are fewer than `low` or more than 10^9. Raises TypeError for no integer.

    Amounts often come from strangers, who must not escape their limit by one that cannot be sent.
    """
    units = integer(name, value)
    if units > MAX_AMOUNT:
        return denied("cost_exceeds_limit")
    return units if units >= low else denied(f"{name}_out_of_range")


def question(check: Check, request_id: str | None) -> Question | Decision:
    """The question of a check, or the denial of its cost or of more than 8 groups. Raises TypeError.

    `request_id` is used for a check that charges and has no id of its own. An own id that the service would refuse is
    sent as its SHA-256 digest; an empty one counts as none.
    """
    client_id, limit_key, cost, own_id, groups = check
    client_id = encoded(literal("client_id", client_id, MAX_CLIENT_ID))
    limit_key = literal("limit_key", limit_key, MAX_LIMIT_KEY)
    if type(cost) is not int or not 0 <= cost <= MAX_AMOUNT:
        units = amount("cost", cost, 0)
        if isinstance(units, Decision):
            return units
        cost = units
    # Member by member, because an encoder of a whole object takes four times as long.
    text = f'{{"client_id":{client_id},"limit_key":{encoded(limit_key)},"cost":{cost}'
    if groups != ():
        named = bounded_groups(groups)
        if isinstance(named, Decision):
            return named
        text += f',"groups":{encoded(named)}' if named else ""
    if own_id is not None:
        chosen = _text("request_id", own_id)
        request_id = (chosen if TOKEN.fullmatch(chosen) else _digest(chosen)) if chosen else request_id
    if request_id is None or not cost:
        return Question(f"{text}}}", limit_key, cost == 0)
    return Question(f'{text},"request_id":"{request_id}"}}', limit_key, True)


def context(correlation_id: str | None, traceparent: str | None) -> str:
    """Header lines for those of the two that are well-formed."""
    lines = ""
    if isinstance(correlation_id, str) and TOKEN.fullmatch(correlation_id):
        lines = f"X-Correlation-ID: {correlation_id}\r\n"
    if isinstance(traceparent, str) and TRACEPARENT.fullmatch(traceparent):
        lines += f"traceparent: {traceparent}\r\n"
    return lines


def together(texts: list[str]) -> str:
    """The body of a batch of which all checks are admitted, or none. Raises ValueError for more than one."""
    size = sum(map(len, texts)) + len(texts)
    if len(texts) > MAX_BATCH or size > MAX_BATCH_BYTES:
        told = f"{len(texts)} checks of {size} bytes"
        raise ValueError(f"checks is {told}, allowed together is {MAX_BATCH} checks of {MAX_BATCH_BYTES} bytes")
    return f'{{"together":true,"headers":true,"checks":[{",".join(texts)}]}}'


def packed(items: Iterable[tuple[int, str]]) -> Iterator[tuple[list[int], str]]:
    """Bodies of batches within the service's bounds, each with the places of its checks. Items are (place, JSON)."""
    places: list[int] = []
    texts: list[str] = []
    size = 0
    for place, text in items:
        if places and (len(places) == MAX_BATCH or size + len(text) >= MAX_BATCH_BYTES):
            yield places, _batch(texts)
            places, texts, size = [], [], 0
        places.append(place)
        texts.append(text)
        size += len(text) + 1
    if places:
        yield places, _batch(texts)


def _batch(texts: list[str]) -> str:
    return f'{{"checks":[{",".join(texts)}]}}'
