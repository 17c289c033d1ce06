"""The Flask door to the check handler: every request shape gunicorn accepts works here. No logic of its own."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from flask import Response, current_app, request
from flask_smorest import Blueprint

from app.api.auth import authenticated_in_handler, credentials_of_request
from app.api.bodies import read_body
from app.api.decoding import require_json
from app.api.handler import CheckHandler, Reply, Request
from app.api.problems import ProblemSchema
from app.api.schemas import BatchResultSchema, BatchSchema, CheckSchema, DecisionSchema
from app.api.traces import parent_of_request
from app.observability.logs import correlation_id

blueprint = Blueprint("check", __name__, url_prefix="/v1", description="May this client do this now?")

REFUSALS = (400, 401, 403, 408, 409, 411, 413, 415, 422, 503)


def _documented(view: Callable[[], Response], body: type, answer: type) -> Callable[[], Response]:
    """For the OpenAPI page only: the handler reads and writes the bytes itself."""
    view = blueprint.doc(requestBody={"required": True, "content": {"application/json": {"schema": body}}})(view)
    view = blueprint.alt_response(200, schema=answer, success=True)(view)
    for status in REFUSALS:
        view = blueprint.alt_response(status, schema=ProblemSchema, content_type="application/problem+json")(view)
    return view


def _answered(handle: Callable[[Request], Reply]) -> Response:
    require_json(request.mimetype)
    credentials = credentials_of_request()
    body = read_body(request.environ, partial(_handler().admit, credentials))
    return response_of(handle(Request(body, credentials, correlation_id.get(), parent_of_request())))


def response_of(reply: Reply) -> Response:
    response = Response(reply.body, status=reply.status)
    response.headers.update(reply.headers)
    return response


def _handler() -> CheckHandler:
    handler: CheckHandler = current_app.extensions["ratelimiter"].check_handler
    return handler


@authenticated_in_handler
def check() -> Response:
    """Decide one check. A denial is an answer (200, `allowed: false`), not an error."""
    return _answered(_handler().handle_check)


@authenticated_in_handler
def check_batch() -> Response:
    """Decide up to 1000 checks in few trips to Redis, in order, independent of each other."""
    return _answered(_handler().handle_batch)


blueprint.route("/check", methods=["POST"])(_documented(check, CheckSchema, DecisionSchema))
blueprint.route("/check/batch", methods=["POST"])(_documented(check_batch, BatchSchema, BatchResultSchema))
