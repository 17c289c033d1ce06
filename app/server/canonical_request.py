"""Recognises canonical check requests. gunicorn's parser and Flask take all others; nothing here refuses a request.

Canonical is one `POST /v1/check` or `/v1/check/batch` in HTTP/1.1 with a complete, short and strictly spelled head (RFC
9112: CRLF line ends, no folding, token names). It has exactly one Host, one Content-Length and one Content-Type of
JSON. No header changes its framing, its connection or the identity of its caller.
"""

from __future__ import annotations

import re
from functools import lru_cache

import msgspec

from app.api.auth import Credentials
from app.api.strict_json import JSON_TYPES
from app.observability.tracing import Parent, parent_of
from app.server.head import MAX_FIELDS

MAX_CANONICAL_HEAD = 4096

REQUEST_LINE = re.compile(rb"POST (/v1/check(?:/batch)?) HTTP/1\.1\r\n")
# Names of letters, digits and hyphens: gunicorn treats underscores and other token characters in its own way.
FIELD_LINES = re.compile(rb"(?:[A-Za-z0-9-]+:[\x20-\x7e\t]*\r\n)+\r\n")
LENGTH = re.compile(rb"(?:0|[1-9][0-9]{0,6})")
JSON_SPELLINGS = tuple(spelling.encode() for spelling in JSON_TYPES)

# gunicorn implements these headers. The forwarding ones may contradict each other, which gunicorn judges.
SPECIAL = frozenset(
    b"transfer-encoding expect upgrade te trailer proxy-connection keep-alive content-encoding http2-settings "
    b"x-forwarded-protocol x-forwarded-ssl script-name path-info".split()
)
# Read here, so they must not be given twice.
SINGLE_FIELDS = frozenset(
    b"host content-length content-type connection authorization x-api-key x-correlation-id x-forwarded-proto "
    b"traceparent tracestate".split()
)


class CanonicalRequest(msgspec.Struct, frozen=True):
    """A recognised head. Header values are latin-1 text, None where they were not sent."""

    path: bytes
    length: int
    credentials: Credentials
    correlation_id: str | None
    parent: Parent | None


# Clients repeat themselves: the head of a connection's next check is often the same to the byte. An entry has the head
# and its parsed copy, so all of them take at most 9 MB.
@lru_cache(maxsize=1024)
def parse_canonical(head: bytes) -> CanonicalRequest | None:
    """The request of a complete head, with the empty line that ends it; None where it is not canonical."""
    line = REQUEST_LINE.match(head)
    if line is None or len(head) > MAX_CANONICAL_HEAD or not FIELD_LINES.fullmatch(head, line.end()):
        return None
    fields: dict[bytes, bytes] = {}
    lines = head[line.end() : -4].split(b"\r\n")
    for field in lines:
        name, _, value = field.partition(b":")
        name = name.lower()
        if name in SPECIAL or (name in SINGLE_FIELDS and name in fields):
            return None
        fields[name] = value.strip(b" \t")
    return _request(line[1], fields) if len(lines) <= MAX_FIELDS else None


def _request(path: bytes, fields: dict[bytes, bytes]) -> CanonicalRequest | None:
    length = fields.get(b"content-length", b"")
    if not (b"host" in fields and LENGTH.fullmatch(length) and fields.get(b"content-type") in JSON_SPELLINGS):
        return None
    if fields.get(b"connection", b"keep-alive").lower() != b"keep-alive":
        return None
    return CanonicalRequest(
        path,
        int(length),
        Credentials(_text(fields.get(b"authorization")), _text(fields.get(b"x-api-key"))),
        _text(fields.get(b"x-correlation-id")),
        parent_of(_text(fields.get(b"traceparent")), _text(fields.get(b"tracestate"))),
    )


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode("latin-1")
