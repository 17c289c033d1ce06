"""Errors as RFC 9457 problem documents, from every source: our code, werkzeug, webargs, the database, a bug."""

from __future__ import annotations

import json
import logging
from http import HTTPStatus
from typing import Any

from flask import Flask, Response
from flask_smorest import Api
from marshmallow import Schema, ValidationError, fields
from werkzeug.exceptions import HTTPException, MethodNotAllowed
from werkzeug.exceptions import NotFound as NoSuchPath

from app.api.error_messages import bounded_messages, cut
from app.api.problem_kinds import type_of
from app.limiter.errors import NotReady, StoreError
from app.observability.logs import correlation_id, first_line
from app.rules.errors import Busy, Conflict, Forbidden, NotFound, Refused, Stale
from app.rules.sql.database.engine import DATABASE_ERRORS

log = logging.getLogger(__name__)

PROBLEM_TYPE = "application/problem+json"
INVALID = "the request is not valid"
NO_SUCH_PATH = "there is no such path; /docs lists all paths"
UNEXPECTED = "an unexpected error: find it in the log by this correlation_id"
RETRY = {"Retry-After": "1"}
MAX_DETAIL = 500  # characters
# webargs and werkzeug disagree on names of statuses; callers see one spelling.
TITLES = {422: "Unprocessable Content", 413: "Content Too Large"}
STATUS_OF_REFUSAL: dict[type[Refused], int] = {Forbidden: 403, NotFound: 404, Conflict: 409, Stale: 412}


class Problem(Exception):
    """An answer that is an error. `errors` maps fields to messages; `detail` says what is wrong and what is allowed.

    `kind`: one of problem_kinds.py, for programs; None where the status explains itself.

    The answer is always short: app/api/error_messages.py bounds the errors, MAX_DETAIL the detail.
    """

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        kind: str | None = None,
        errors: dict[str, Any] | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.kind = "invalid-request" if status == 422 else kind
        self.status = status
        self.detail = cut(detail, MAX_DETAIL)
        self.errors = bounded_messages(errors) if errors else None
        self.headers = headers or {}

    def document(self) -> dict[str, Any]:
        document: dict[str, Any] = {
            "type": type_of(self.kind),
            "title": TITLES.get(self.status) or HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
            "correlation_id": correlation_id.get(),
        }
        return document | ({"errors": self.errors} if self.errors else {})

    def body(self) -> bytes:
        return json.dumps(self.document(), separators=(",", ":")).encode()


class ProblemSchema(Schema):
    """For the OpenAPI page; documents are built by Problem."""

    type = fields.String(required=True)
    title = fields.String(required=True)
    status = fields.Integer(required=True)
    detail = fields.String(required=True)
    correlation_id = fields.String(required=True)
    errors = fields.Dict(keys=fields.String(), metadata={"description": "field -> messages (422)"})


class ProblemApi(Api):
    """flask-smorest with problem documents instead of its own error format."""

    ERROR_SCHEMA = ProblemSchema

    def _register_responses(self) -> None:
        """Document the errors, to which flask-smorest would give the content type of successes."""
        self.DEFAULT_RESPONSE_CONTENT_TYPE = PROBLEM_TYPE
        super()._register_responses()
        del self.DEFAULT_RESPONSE_CONTENT_TYPE  # restores the class's type, for successes

    def handle_http_exception(self, error: HTTPException) -> Response:
        status = error.code or 500
        data = getattr(error, "data", None) or {}
        errors = data.get("messages")
        if isinstance(errors, dict) and len(errors) == 1:  # webargs puts the location ("json", "query") on top
            errors = next(iter(errors.values()))
        problem = Problem(status, data.get("message") or _detail(error, status), errors=errors)
        headers = {name: value for name, value in error.get_headers() if name == "Retry-After"}
        if isinstance(error, MethodNotAllowed):  # werkzeug's own order differs from process to process
            headers["Allow"] = ", ".join(sorted(error.valid_methods or ()))
        return _response(problem, headers)


def init_app(app: Flask) -> None:
    """Handle every other error that can be raised below a view."""
    app.register_error_handler(Problem, _response)
    app.register_error_handler(
        Refused, lambda error: _response(Problem(STATUS_OF_REFUSAL[type(error)], str(error), kind=error.kind))
    )
    app.register_error_handler(ValidationError, _invalid)
    app.register_error_handler(
        NotReady, lambda _: _response(Problem(503, "no rules are known yet", kind="no-rules"), RETRY)
    )
    app.register_error_handler(StoreError, _redis_unavailable)
    app.register_error_handler(Busy, lambda error: _response(Problem(503, str(error), kind=error.kind), RETRY))
    for kind in DATABASE_ERRORS:
        app.register_error_handler(kind, _database_unavailable)


def _detail(error: HTTPException, status: int) -> str:
    if status == 422:
        return INVALID
    if status == 500:
        return UNEXPECTED
    if isinstance(error, NoSuchPath):
        return NO_SUCH_PATH
    return error.description or HTTPStatus(status).phrase


def _invalid(error: ValidationError) -> Response:
    """Errors that a view finds after the schema of its arguments has accepted them."""
    return _response(Problem(422, INVALID, errors=_messages(error)))


def _messages(error: ValidationError) -> dict[str, Any]:
    """Field -> messages, also for an error that names a single field."""
    messages: dict[str, Any] = error.normalized_messages()  # type: ignore[no-untyped-call]
    return messages


def _redis_unavailable(error: Exception) -> Response:
    log.warning("redis: %s", error)
    return _response(Problem(503, "Redis cannot be reached right now", kind="redis-unavailable"), RETRY)


def _database_unavailable(error: Exception) -> Response:
    log.warning("database: %s", first_line(error))
    detail = "the database cannot be reached right now; checks are not affected"
    problem = Problem(503, detail, kind="database-unavailable")
    return _response(problem, RETRY)


def _response(problem: Problem, headers: dict[str, str] | None = None) -> Response:
    response = Response(problem.body(), status=problem.status, content_type=PROBLEM_TYPE)
    response.headers.update(problem.headers | (headers or {}))
    return response
