"""Refusals by the server itself: malformed requests, and too many connections.

A refusal names the kind of error. The bytes of the request may hold a secret, so answer and log do not show them.
"""

from __future__ import annotations

import json
from ssl import SSLError

from gunicorn.http import errors

from app.api.correlation import HEADER as CORRELATION_ID
from app.api.correlation import chosen
from app.api.problems import PROBLEM_TYPE, RETRY, Problem
from app.server.head import MAX_FIELD, MAX_FIELDS, MAX_HEAD, MAX_LINE

BAD_REQUEST = "400 Bad Request"
CHUNKS = (BAD_REQUEST, "the chunks of the body are malformed")
PROXY = (BAD_REQUEST, "the PROXY protocol's line is malformed")
FIELD = (BAD_REQUEST, "a header field is malformed, contradicts another, or may not be here, or not twice")
BY_KIND: dict[type[Exception], tuple[str, str]] = {
    errors.InvalidRequestLine: (BAD_REQUEST, "the request line is not METHOD, target and version, with a CRLF"),
    errors.InvalidRequestMethod: (BAD_REQUEST, "the method is not 3 to 20 capital letters"),
    errors.InvalidHTTPVersion: (BAD_REQUEST, "the version is not HTTP/1.0 or HTTP/1.1"),
    errors.InvalidHeader: FIELD,
    errors.InvalidHeaderName: (BAD_REQUEST, "the name of a header field is malformed, or may not be here"),
    errors.ObsoleteFolding: (BAD_REQUEST, "a header field goes over several lines"),
    errors.InvalidSchemeHeaders: (BAD_REQUEST, "the header fields that say the scheme contradict each other"),
    errors.UnsupportedTransferCoding: (BAD_REQUEST, "the only transfer coding is chunked"),
    errors.InvalidChunkSize: CHUNKS,
    errors.InvalidChunkExtension: CHUNKS,
    errors.ChunkMissingTerminator: CHUNKS,
    errors.InvalidProxyLine: PROXY,
    errors.InvalidProxyHeader: PROXY,
    errors.ForbiddenProxyRequest: ("403 Forbidden", "the PROXY protocol is not allowed from this address"),
    errors.LimitRequestLine: ("414 URI Too Long", f"the request line has more than {MAX_LINE} bytes"),
    errors.LimitRequestHeaders: (
        "431 Request Header Fields Too Large",
        f"allowed are {MAX_HEAD} bytes of head, {MAX_FIELDS} fields, and {MAX_FIELD} bytes a field",
    ),
    errors.ExpectationFailed: (BAD_REQUEST, "the only expectation is 100-continue"),
    SSLError: (BAD_REQUEST, "TLS failed"),
}


def refusal(error: BaseException) -> tuple[str, str] | None:
    """Status line and wording; None where the error is not the client's."""
    if isinstance(error, (errors.InvalidResponseHeader, errors.InvalidResponseHeaderName)):
        return None
    for kind in type(error).__mro__:
        if kind in BY_KIND:
            return BY_KIND[kind]
    return (BAD_REQUEST, "the request is malformed") if isinstance(error, errors.ParseException) else None


def too_many_connections(most: int) -> bytes:
    """The answer to a connection above `most`, for any request."""
    detail = f"a worker takes {most} connections from one address at a time"
    problem = Problem(503, detail, kind="too-many-connections", headers=RETRY)
    correlation_id = chosen(None)
    body = json.dumps(problem.document() | {"correlation_id": correlation_id}, separators=(",", ":"))
    fields = {"Connection": "close", "Content-Type": PROBLEM_TYPE, "Content-Length": len(body)} | problem.headers
    head = [f"{name}: {value}\r\n" for name, value in (fields | {CORRELATION_ID: correlation_id}).items()]
    return f"HTTP/1.1 503 Service Unavailable\r\n{''.join(head)}\r\n{body}".encode()
