"""The routes for proxies that ask before they pass a request on: Traefik, nginx, HAProxy, Caddy, Envoy.

docs/forward-auth.md explains how to configure a proxy.
"""

from __future__ import annotations

from typing import Any

from flask import Response, request
from flask.blueprints import BlueprintSetupState
from flask_smorest import Blueprint
from marshmallow import fields, validate
from werkzeug.routing import Rule

from app.api.auth import authenticated_in_handler, credentials_of_request
from app.api.check.handler import Request
from app.api.check.routes import response_of
from app.api.check.schemas import DecisionSchema
from app.api.problems import PROBLEM_TYPE, ProblemSchema
from app.api.schemas import MAX_LIMIT_KEY, QuerySchema, text_field
from app.api.services import services
from app.observability.logs import correlation_id
from app.rules.rule import MAX_AMOUNT

blueprint = Blueprint("authorize", __name__, url_prefix="/v1", description="Forward authentication")

REFUSALS = (400, 401, 403, 422, 503)
FREE = ("OPTIONS", "TRACE")  # a browser sends OPTIONS ahead of its request, and no application serves TRACE


class AuthorizeSchema(QuerySchema):
    """The query that the proxy's configuration sets for a route."""

    limit_key = text_field(MAX_LIMIT_KEY, load_default="global", metadata={"example": "login"})
    cost = fields.Integer(load_default=1, validate=validate.Range(1, MAX_AMOUNT))


class DenialSchema(ProblemSchema, DecisionSchema):
    """A denial: a problem document with the members of the decision."""


def _documented(view: Any) -> Any:
    view = blueprint.alt_response(200, schema=DecisionSchema, success=True)(view)
    view = blueprint.alt_response(429, schema=DenialSchema, content_type=PROBLEM_TYPE)(view)
    for status in REFUSALS:
        view = blueprint.alt_response(status, schema=ProblemSchema, content_type=PROBLEM_TYPE)(view)
    return view


@_documented
@blueprint.arguments(AuthorizeSchema, location="query")
@authenticated_in_handler
def authorize(sent: dict[str, Any]) -> Response:
    """Charge the client that the proxy names, and say whether it may pass: 200 or 429.

    Every method does the same, except that OPTIONS and TRACE consume nothing.
    """
    return _answer(**sent)


@_documented
@authenticated_in_handler
def authorize_below(limit_key: str) -> Response:
    """The same for proxies that append the client's path and query (Envoy): text after the next slash is ignored."""
    return _answer(limit_key.partition("/")[0], 1)


def _answer(limit_key: str, cost: int) -> Response:
    wired = services()
    if request.method in FREE:
        cost = 0
    question = Request(b"", credentials_of_request(), correlation_id.get())
    header, peer = request.headers.get, request.remote_addr or ""
    check = wired.authorizer.with_check(question, limit_key, cost, peer=peer, header=header)
    [decided] = wired.check_handler.handle_checks([check])
    return response_of(decided)


VIEWS: dict[str, Any] = {"/authorize": authorize, "/authorize/<path:limit_key>": authorize_below}
for _path, _view in VIEWS.items():
    _view.provide_automatic_options = False  # Flask's own answer to OPTIONS would let them pass unlimited
    blueprint.route(_path, methods=["GET"])(_view)


@blueprint.record
def _any_method(state: BlueprintSetupState) -> None:
    """Route every method: a proxy may forward the method of its client. GET, above, stands for all in the document."""
    for path, view in VIEWS.items():
        state.app.url_map.add(Rule(f"/v1{path}", endpoint=f"{blueprint.name}.{view.__name__}"))
