"""The routes of checks, for Flask to document and to refuse other methods. The WSGI door answers every POST to them."""

from __future__ import annotations

from collections.abc import Callable

from flask import Response
from flask_smorest import Blueprint

from app.api.auth import authenticated_in_handler
from app.api.check.handler import Reply
from app.api.check.schemas import BatchResultSchema, BatchSchema, CheckSchema, DecisionSchema
from app.api.problems import ProblemSchema

blueprint = Blueprint("check", __name__, url_prefix="/v1", description="May this client do this now?")

ANSWERED_BY_DOOR = "app/api/check/wsgi_door.py answers checks"
REFUSALS = (400, 401, 403, 408, 409, 411, 413, 415, 422, 503)


def _documented(view: Callable[[], Response], body: type, answer: type) -> Callable[[], Response]:
    """For the OpenAPI page only: the handler reads and writes the bytes itself."""
    view = blueprint.doc(requestBody={"required": True, "content": {"application/json": {"schema": body}}})(view)
    view = blueprint.alt_response(200, schema=answer, success=True)(view)
    for status in REFUSALS:
        view = blueprint.alt_response(status, schema=ProblemSchema, content_type="application/problem+json")(view)
    return view


def response_of(reply: Reply) -> Response:
    response = Response(reply.body, status=reply.status)
    response.headers.update(reply.headers)
    return response


@authenticated_in_handler
def check() -> Response:
    """Decide one check. A denial is an answer (200, `allowed: false`), not an error."""
    raise AssertionError(ANSWERED_BY_DOOR)


@authenticated_in_handler
def check_batch() -> Response:
    """Decide up to 1000 checks in order, in few round trips to Redis: independently, or `together`, all or none."""
    raise AssertionError(ANSWERED_BY_DOOR)


blueprint.route("/check", methods=["POST"])(_documented(check, CheckSchema, DecisionSchema))
blueprint.route("/check/batch", methods=["POST"])(_documented(check_batch, BatchSchema, BatchResultSchema))
