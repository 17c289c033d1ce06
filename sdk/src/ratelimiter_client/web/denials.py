"""Answers to denied requests."""

from __future__ import annotations

import json
from typing import NamedTuple
from uuid import uuid4

from ratelimiter_client.decision import Decision
from ratelimiter_client.http.questions import TOKEN
from ratelimiter_client.identify import Environ

CORRELATION_ID = "HTTP_X_CORRELATION_ID"
TITLES = {429: "Too Many Requests", 503: "Service Unavailable"}
PROBLEM = "application/problem+json"


class Denial(NamedTuple):
    """An answer: 429 where a limit denies, 503 where fail mode "closed" does."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes


def denial(decision: Decision, environ: Environ, detail: str | None = None) -> Denial:
    """An RFC 9457 problem document. `detail`: instead of the wait in words."""
    status = status_of(decision)
    wait_ms = decision.retry_after_ms
    document = {
        "type": "about:blank",
        "title": TITLES[status],
        "status": status,
        "detail": detail or in_words(decision),
        "correlation_id": correlation_id(environ),
        "retry_after_ms": wait_ms,
    }
    return Denial(status, denial_headers(decision, environ), json.dumps(document, separators=(",", ":")).encode())


def status_of(decision: Decision) -> int:
    return 429 if decision.error is None else 503


def denial_headers(decision: Decision, environ: Environ) -> list[tuple[str, str]]:
    """The service's headers, Retry-After in whole seconds where waiting helps, and the correlation id."""
    headers = [(name, value) for name, value in decision.headers if name != "Retry-After"]
    wait_ms = decision.retry_after_ms
    headers += [] if wait_ms is None else [("Retry-After", str(-(-wait_ms // 1000)))]
    return [*headers, ("X-Correlation-ID", correlation_id(environ))]


def in_words(decision: Decision) -> str:
    """The wait in words."""
    if decision.error is not None:
        return "whether the request is within its limits cannot be told right now"
    wait_ms = decision.retry_after_ms
    return "waiting does not help" if wait_ms is None else f"ask again in {wait_ms / 1000:.15g} seconds"


def correlation_id(environ: Environ) -> str:
    """The request's own id where it is well-formed, else a new one; kept in the environ."""
    sent = environ.get(CORRELATION_ID)
    if sent is None or not TOKEN.fullmatch(sent):
        environ[CORRELATION_ID] = sent = str(uuid4())
    return str(sent)
