"""Request bodies, bounded in size and time before any view runs. A body read here is where views read theirs."""

from __future__ import annotations

from io import BytesIO
from typing import Any, NoReturn

import gevent
from flask import Flask, request
from gunicorn.http.errors import ParseException
from werkzeug.wsgi import get_content_length

from app.api.problems import Problem

SECONDS = 2.0
KIBIBYTE = 1024
MAX_BYTES = {"/v1/check": 8 * KIBIBYTE, "/v1/check/batch": 256 * KIBIBYTE}
LATE = f"the body did not arrive within {SECONDS:g} seconds"
LEASES, MAX_BYTES_OF_LEASES = "/v1/leases", 8 * KIBIBYTE  # and of what is below
MAX_BYTES_ELSEWHERE = 1024 * KIBIBYTE  # an import of rules


def init_app(app: Flask) -> None:
    @app.before_request
    def read() -> None:
        read_body(request.environ)


def read_body(environ: dict[str, Any]) -> bytes | None:
    """Read the body of a WSGI request whole, and leave it there for others; None where there is none.

    Raises Problem 400, 408, 411 or 413 (and gives the connection up: the rest is unread).
    """
    path = environ["PATH_INFO"]
    limit = MAX_BYTES.get(path, MAX_BYTES_OF_LEASES if path.startswith(LEASES) else MAX_BYTES_ELSEWHERE)
    length = get_content_length(environ)
    if length is None and path in MAX_BYTES and environ["REQUEST_METHOD"] == "POST":
        _refuse(environ, 411, "Content-Length is required; chunked bodies are not accepted here")
    if length is None and "HTTP_TRANSFER_ENCODING" not in environ:
        return None
    if length is not None and length > limit:
        _refuse(environ, 413, f"the body has {length} bytes, allowed are {limit}")
    try:
        with gevent.Timeout(SECONDS):
            body: bytes = environ["wsgi.input"].read(limit + 1 if length is None else length)
    except gevent.Timeout:
        _refuse(environ, 408, LATE)
    except (ParseException, OSError):
        _refuse(environ, 400, "the chunks of the body are malformed, or end too early")
    if length is not None and len(body) < length:
        _refuse(environ, 400, f"the body ended after {len(body)} of {length} bytes")
    if len(body) > limit:
        _refuse(environ, 413, f"the body has more than {limit} bytes")
    environ["wsgi.input"] = BytesIO(body)
    environ["CONTENT_LENGTH"] = str(len(body))
    return body


def _refuse(environ: dict[str, Any], status: int, detail: str) -> NoReturn:
    # gunicorn.conf.py puts this on the input: unread bytes must not be taken for the next request.
    abandon = getattr(environ["wsgi.input"], "abandon_connection", None)
    if abandon is not None:
        abandon()
    raise Problem(status, detail)
