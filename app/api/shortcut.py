"""The short way to the check handler: WSGI in front of Flask, for the checks that clients normally send.

Flask costs several times what a check costs. What is not a POST of JSON to the two routes goes on to Flask, where the
same handler answers whatever else is a check.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import Any

from app.api.auth import Credentials
from app.api.bodies import read_body
from app.api.correlation import HEADER, chosen
from app.api.decoding import JSON_TYPES
from app.api.handler import CheckHandler, Reply
from app.api.problems import UNEXPECTED, Problem
from app.observability.logs import correlation_id as current_correlation_id

log = logging.getLogger(__name__)

STATUS = {status.value: f"{status.value} {status.phrase}" for status in HTTPStatus}
WsgiApp = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class Shortcut:
    """WSGI application; `rest` is the one for everything else."""

    def __init__(self, handler: CheckHandler, rest: WsgiApp) -> None:
        self._handler = handler
        self._handlers = {"/v1/check": handler.handle_check, "/v1/check/batch": handler.handle_batch}
        self._rest = rest

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        handle = self._handlers.get(environ["PATH_INFO"])
        if handle is None or environ["REQUEST_METHOD"] != "POST" or environ.get("CONTENT_TYPE") not in JSON_TYPES:
            return self._rest(environ, start_response)
        correlation_id = chosen(environ.get("HTTP_X_CORRELATION_ID"))
        current_correlation_id.set(correlation_id)
        credentials = Credentials(environ.get("HTTP_AUTHORIZATION"), environ.get("HTTP_X_API_KEY"))
        try:
            reply = handle(read_body(environ) or b"", credentials, correlation_id)
        except Exception as error:
            reply = self._refused(error, correlation_id)
        length = str(len(reply.body))
        start_response(STATUS[reply.status], [*reply.headers, ("Content-Length", length), (HEADER, correlation_id)])
        return [reply.body]

    def _refused(self, error: Exception, correlation_id: str) -> Reply:
        if not isinstance(error, Problem):
            log.error("cannot answer a check", exc_info=error)
            error = Problem(500, UNEXPECTED)
        return self._handler.refuse(error, correlation_id)
