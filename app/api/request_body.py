"""Request bodies: which are never read, and how the others are read, bounded in size and time.

A body is read when a view asks for it: by then its path, its method and its caller are known. A long body that is not
read ends the connection with the answer. gunicorn reads past a short one, for 5 seconds at most.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from io import BytesIO
from typing import Any, NoReturn

import gevent
from flask import Flask, Response, request
from gunicorn.http.errors import ParseException
from werkzeug.exceptions import NotFound
from werkzeug.wsgi import get_content_length

from app.api.problems import NO_SUCH_PATH, Problem
from app.rules.sync.yielding import CooperativePace

BODY_SECONDS = 2.0
BYTES_PER_SECOND = 256 * 1024  # an import gets one more second for each
LATE = f"the body did not arrive within {BODY_SECONDS:g} seconds"
LATE_FILE = f"{LATE} and one more for each {BYTES_PER_SECOND} bytes"
KIBIBYTE = 1024
MAX_BYTES = {"/v1/check": 8 * KIBIBYTE, "/v1/check/batch": 256 * KIBIBYTE}
IMPORT_PATH, AUTHORIZE_BLUEPRINT = "/v1/admin/import", "authorize"
MAX_BYTES_OF_IMPORT = 64 * 1024 * KIBIBYTE  # for 100,000 rules of 671 bytes
# By the beginning of the path. The longest texts of a rule take 17 KiB in JSON's escapes; a template has 20 rules.
MAX_BYTES_BELOW = {
    IMPORT_PATH: MAX_BYTES_OF_IMPORT,
    "/v1/leases": 8 * KIBIBYTE,
    "/v1/admin/rules": 64 * KIBIBYTE,
    "/v1/admin/templates": 64 * KIBIBYTE,
}
MAX_BYTES_ELSEWHERE = 16 * KIBIBYTE
SHORT_BODY_BYTES = 16 * KIBIBYTE  # longer bodies of unknown callers are not read, and unread ones end the connection
BODY_METHODS = ("POST", "PUT", "PATCH")  # methods whose body has a meaning
SLICE_BYTES = 16 * KIBIBYTE
# An import may have MAX_CHUNKS chunks, and one more for each BYTES_PER_CHUNK received, because a file may come line by
# line. A chunk costs 5 µs, however small.
MAX_CHUNKS, BYTES_PER_CHUNK = 16_384, 16
_READ = "ratelimiter.body_read"


def init_app(app: Flask) -> None:
    @app.before_request
    def refuse() -> None:
        """Refuse a body where none belongs. `/v1/authorize` ignores one: a proxy may forward the head of its client's
        request.
        """
        if request.blueprint == AUTHORIZE_BLUEPRINT or not _announced(request.environ):
            return
        if request.method not in BODY_METHODS:
            _refuse(
                request.environ, 400, f"{request.method} takes no body here, so it was not read", kind="unwanted-body"
            )
        if isinstance(request.routing_exception, NotFound):
            _refuse(request.environ, 400, f"{NO_SUCH_PATH}; the body was not read", kind="unwanted-body")

    @app.after_request
    def end_unread(response: Response) -> Response:
        leave_unread(request.environ, any_length=request.blueprint == AUTHORIZE_BLUEPRINT)
        return response


def leave_unread(environ: dict[str, Any], *, any_length: bool = False) -> None:
    """End the connection with the answer if a body was not read and is long, or of `any_length`."""
    if _announced(environ) and _READ not in environ and (any_length or not _short(environ)):
        _give_up(environ)


def read_body(environ: dict[str, Any], admit: Callable[[], object] | None = None) -> bytes:
    """The whole body of a WSGI request. Can be called once.

    `admit` raises Problem for a caller without the right to send it, and is called before a large body is read. Raises
    Problem 400, 408, 411, 413 or 415, and then ends the connection with the answer.
    """
    path, length = environ["PATH_INFO"], get_content_length(environ)
    if length is None and (path != IMPORT_PATH or "HTTP_TRANSFER_ENCODING" not in environ):
        _refuse(environ, 411, "Content-Length is required; chunked bodies are not accepted here")
    coding = environ.get("HTTP_CONTENT_ENCODING", "").strip().lower()
    if coding not in ("", "identity"):
        _refuse(environ, 415, "the body is compressed, allowed is none", headers={"Accept-Encoding": "identity"})
    limit = _max_bytes(path)
    if length is not None and length > limit:
        _refuse(environ, 413, f"the body has {length} bytes, allowed are {limit}")
    if admit is not None and not _short(environ):
        try:
            admit()
        except Problem:
            _give_up(environ)
            raise
    body = _chunked_body(environ, limit) if length is None else _sized_body(environ, length)
    environ[_READ] = True
    return body


def _announced(environ: dict[str, Any]) -> bool:
    return "HTTP_TRANSFER_ENCODING" in environ or bool(get_content_length(environ))


def _short(environ: dict[str, Any]) -> bool:
    length = get_content_length(environ)
    return length is not None and length <= SHORT_BODY_BYTES


def _max_bytes(path: str) -> int:
    if path in MAX_BYTES:
        return MAX_BYTES[path]
    return next((limit for below, limit in MAX_BYTES_BELOW.items() if path.startswith(below)), MAX_BYTES_ELSEWHERE)


def _sized_body(environ: dict[str, Any], length: int) -> bytes:
    stream, body = environ["wsgi.input"], BytesIO()
    if length <= _bytes_there(stream):  # nearly always
        whole: bytes = stream.read(length)
        return whole

    def slices() -> Iterator[bytes]:
        while (missing := length - body.tell()) and (piece := stream.read(min(SLICE_BYTES, missing))):
            yield piece

    if not _received(environ, slices(), body, length):
        body.write(_waiting_bytes(environ, length - body.tell()))
        if body.tell() < length:
            _refuse(environ, 408, _late(environ))
    if body.tell() < length:
        _refuse(environ, 400, f"the body ended after {body.tell()} of {length} bytes", kind="malformed-body")
    return body.getvalue()


def _bytes_there(stream: Any) -> int:
    """The number of bytes that came with the head, in gunicorn's buffer."""
    reader = getattr(stream, "reader", None)
    return 0 if reader is None else int(reader.unreader.buf.getbuffer().nbytes)


def _chunked_body(environ: dict[str, Any], limit: int) -> bytes:
    body = BytesIO()

    def chunks() -> Iterator[bytes]:
        for number, chunk in enumerate(environ["wsgi.input"].reader.parser):
            if number > MAX_CHUNKS + body.tell() // BYTES_PER_CHUNK:
                _refuse(environ, 400, f"the body has {number} chunks or more: send larger ones", kind="malformed-body")
            yield chunk

    if not _received(environ, chunks(), body, limit + 1):
        _refuse(environ, 408, _late(environ))
    if body.tell() > limit:
        _refuse(environ, 413, f"the body has more than {limit} bytes")
    return body.getvalue()


def _received(environ: dict[str, Any], pieces: Iterator[bytes], body: BytesIO, enough: int) -> bool:
    """Whether all pieces, or `enough` bytes, came in time; they are added to `body`.

    A timeout ends a wait. While bytes keep coming the greenlet never waits, so the clock is read too, and other
    greenlets get their turn.
    """
    deadline = time.monotonic() + BODY_SECONDS
    more = 1 / BYTES_PER_SECOND if environ["PATH_INFO"] == IMPORT_PATH else 0
    paced = iter(CooperativePace(time.monotonic)(pieces))
    try:
        while (left := deadline + body.tell() * more - time.monotonic()) > 0:
            with gevent.Timeout(left):
                piece = next(paced, None)
            if piece is not None:
                body.write(piece)
            if piece is None or body.tell() >= enough:
                return True
    except gevent.Timeout:
        pass
    except (ParseException, OSError):
        _refuse(environ, 400, "the chunks of the body are malformed, or end too early", kind="malformed-body")
    return False


def _late(environ: dict[str, Any]) -> str:
    return LATE_FILE if environ["PATH_INFO"] == IMPORT_PATH else LATE


def _waiting_bytes(environ: dict[str, Any], missing: int) -> bytes:
    """The bytes in the socket. After a pause of the worker the timeout is over, though the body came in time."""
    client = environ["gunicorn.socket"]
    timeout = client.gettimeout()
    client.settimeout(0)
    try:
        found: bytes = environ["wsgi.input"].read(missing)
    except (OSError, gevent.Timeout):  # the read would have to wait
        return b""
    finally:
        client.settimeout(timeout)
    return found


def _refuse(
    environ: dict[str, Any], status: int, detail: str, *, kind: str | None = None, headers: dict[str, str] | None = None
) -> NoReturn:
    _give_up(environ)
    raise Problem(status, detail, kind=kind, headers=headers)


def _give_up(environ: dict[str, Any]) -> None:
    """End the connection with the answer, by the method that gunicorn.conf.py adds to the input."""
    abandon = getattr(environ["wsgi.input"], "abandon_connection", None)
    if abandon is not None:
        abandon()
