"""Request bodies, bounded in size and time before any view runs. A body read here is where views read theirs."""

from __future__ import annotations

from io import BytesIO
from typing import NoReturn

import gevent
from flask import Flask, request
from gunicorn.http.errors import ParseException

from app.api.problems import Problem

SECONDS = 2.0
KIBIBYTE = 1024
MAX_BYTES = {"/v1/check": 8 * KIBIBYTE, "/v1/check/batch": 256 * KIBIBYTE}
LATE = f"the body did not arrive within {SECONDS:g} seconds"
MAX_BYTES_ELSEWHERE = 1024 * KIBIBYTE  # an import of rules


def init_app(app: Flask) -> None:
    app.before_request(read_body)


def read_body() -> None:
    """Read the body whole. Raises Problem 400, 408, 411 or 413 (and gives the connection up: the rest is unread)."""
    limit = MAX_BYTES.get(request.path, MAX_BYTES_ELSEWHERE)
    length = request.content_length
    if length is None and request.path in MAX_BYTES and request.method == "POST":
        _refuse(411, "Content-Length is required; chunked bodies are not accepted here")
    if length is None and "Transfer-Encoding" not in request.headers:
        return
    if length is not None and length > limit:
        _refuse(413, f"the body has {length} bytes, allowed are {limit}")
    source = request.environ["wsgi.input"]
    try:
        with gevent.Timeout(SECONDS):
            body = source.read(limit + 1 if length is None else length)
    except gevent.Timeout:
        _refuse(408, LATE)
    except (ParseException, OSError):
        _refuse(400, "the chunks of the body are malformed, or end too early")
    if length is not None and len(body) < length:
        _refuse(400, f"the body ended after {len(body)} of {length} bytes")
    if len(body) > limit:
        _refuse(413, f"the body has more than {limit} bytes")
    request.environ["wsgi.input"] = BytesIO(body)
    request.environ["CONTENT_LENGTH"] = str(len(body))


def _refuse(status: int, detail: str) -> NoReturn:
    # gunicorn.conf.py puts this on the input: unread bytes must not be taken for the next request.
    abandon = getattr(request.environ["wsgi.input"], "abandon_connection", None)
    if abandon is not None:
        abandon()
    raise Problem(status, detail)
