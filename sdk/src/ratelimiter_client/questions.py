"""What is sent: bodies that the service understands, whatever the application was given."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any, Iterable, Iterator
from urllib.parse import quote

from ratelimiter_client.decision import Check
from ratelimiter_client.errors import RateLimiterError

MAX_CLIENT_ID = 256
MAX_LIMIT_KEY = 128
MAX_AMOUNT = 10**9
MAX_BITS = 256  # of integers taken as names
MAX_TTL_MS = 3_600_000
MAX_BATCH = 1000
MAX_BATCH_BYTES = 250_000
UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
TOKEN = re.compile(r"[A-Za-z0-9._-]{1,64}")
LEASE_ID = re.compile(r"[\x21-\x7e]{1,256}")
TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")

encoded = json.JSONEncoder(separators=(",", ":")).encode


def literal(name: str, value: object, most: int) -> str:
    """The text to send for a name. Raises RateLimiterError where it is none.

    One that the service would refuse (empty, longer than `most` characters, or with control characters) is sent as its
    SHA-256 digest: names often come from strangers, who must not escape their limit by such a name.
    """
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() < MAX_BITS:
        value = str(int(value))  # of an IntEnum that str() has a name
    if not isinstance(value, str):
        raise RateLimiterError(f"{name} is {type(value).__name__}, allowed is text", status=422)
    if not 0 < len(value) <= most or UNPRINTABLE.search(value):
        return "sha256:" + hashlib.sha256(value.encode("utf-8", "surrogatepass")).hexdigest()
    return value


def amount(name: str, value: object, low: int, high: int = MAX_AMOUNT) -> int:
    """Raises RateLimiterError for what is no integer of that range."""
    if not is_integer(value, low, high):
        raise RateLimiterError(f"{name} is not an integer from {low} to {high}", status=422)
    return value  # type: ignore[return-value]


def is_integer(value: object, low: int, high: int) -> bool:
    """Of that range. A truth value is none, though Python has it as one."""
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def milliseconds(name: str, seconds: Any, high: int) -> int:
    """At least one. Raises RateLimiterError for what is no number of seconds, or too many."""
    try:
        rounded = round(seconds * 1000)
    except (TypeError, ValueError, ArithmeticError):  # text, nan, inf
        rounded = None
    return amount(f"{name}, in milliseconds,", rounded, 1, high)


def lease_path(lease_id: object) -> str:
    """Its part of a path. Raises RateLimiterError for what no lease is called."""
    if not isinstance(lease_id, str) or not LEASE_ID.fullmatch(lease_id):
        raise RateLimiterError("lease_id is not 1 to 256 of visible ASCII", status=422)
    return quote(lease_id, safe="")


def names(client_id: object, limit_key: object) -> dict[str, Any]:
    """The members that say who and what. Raises RateLimiterError."""
    return {
        "client_id": literal("client_id", client_id, MAX_CLIENT_ID),
        "limit_key": literal("limit_key", limit_key, MAX_LIMIT_KEY),
    }


def question(check: Check, request_id: str | None) -> dict[str, Any]:
    """The JSON object of a check; `request_id` where it has none of its own, and charges. Raises RateLimiterError."""
    fields = names(check.client_id, check.limit_key)
    fields["cost"] = amount("cost", check.cost, 0)
    chosen = request_id if check.request_id is None else check.request_id
    if chosen is not None and check.cost:
        if not isinstance(chosen, str) or not TOKEN.fullmatch(chosen):
            raise RateLimiterError("request_id is not 1 to 64 of A-Z a-z 0-9 . _ -", status=422)
        fields["request_id"] = chosen
    return fields


def context(correlation_id: str | None, traceparent: str | None) -> str:
    """Header lines of those that are well-formed."""
    lines = ""
    if isinstance(correlation_id, str) and TOKEN.fullmatch(correlation_id):
        lines = f"X-Correlation-ID: {correlation_id}\r\n"
    if isinstance(traceparent, str) and TRACEPARENT.fullmatch(traceparent):
        lines += f"traceparent: {traceparent}\r\n"
    return lines


def packed(items: Iterable[tuple[int, str]]) -> Iterator[tuple[list[int], bytes]]:
    """Bodies of batches that the service takes, each with the places of its checks; items are (place, JSON)."""
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


def _batch(texts: list[str]) -> bytes:
    return f'{{"checks":[{",".join(texts)}]}}'.encode()
