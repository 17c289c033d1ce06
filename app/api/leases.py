"""Leases: permits for many checks at once, of which unused ones can be returned."""

from __future__ import annotations

import json
from typing import Any

from flask import Response, g
from marshmallow import Schema, fields

from app.api.auth import requires
from app.api.blueprint import StrictBlueprint
from app.api.check.handler import Reply
from app.api.check.routes import response_of
from app.api.check.schemas import DecisionSchema
from app.api.problems import PROBLEM_TYPE, Problem, ProblemSchema
from app.api.schemas import MAX_CLIENT_ID, MAX_LIMIT_KEY, Groups, StrictSchema, amount, text_field
from app.api.services import services
from app.limiter.decision import Check
from app.limiter.errors import Unavailable

blueprint = StrictBlueprint("leases", __name__, url_prefix="/v1/leases", description="Permits for many checks at once")

MAX_TTL_MS = 3_600_000
REFUSALS = (400, 401, 403, 404, 408, 411, 413, 415, 422, 503)
NOT_WITHOUT_REDIS = "Redis cannot decide right now, and only Redis grants leases: use POST /v1/check"


class LeaseSchema(StrictSchema):
    """A request for permits, each for one check of cost 1 that the caller decides without asking."""

    client_id = text_field(MAX_CLIENT_ID, required=True, metadata={"example": "user_123"})
    limit_key = text_field(MAX_LIMIT_KEY, load_default="global", metadata={"example": "login"})
    permits = amount(1, required=True, metadata={"description": "how many are wanted"})
    ttl_ms = amount(1, MAX_TTL_MS, load_default=10_000, metadata={"description": "how long they may be used"})
    groups = Groups()


class GrantSchema(DecisionSchema):
    """The grant, with the decision on a check of that cost; without a grant, the decision on a check of cost 1."""

    lease_id = fields.String(required=True, allow_none=True)
    granted = fields.Integer(required=True)
    expires_at = fields.Float(required=True, allow_none=True, metadata={"description": "Unix time"})


class ReturnSchema(StrictSchema):
    unused = amount(0, required=True)


class ReturnedSchema(Schema):
    """The number of permits credited: at most those granted, fewer if the counter no longer holds them."""

    lease_id = fields.String(required=True)
    returned = fields.Integer(required=True)


def _documented(view: Any) -> Any:
    for status in REFUSALS:
        view = blueprint.alt_response(status, schema=ProblemSchema, content_type=PROBLEM_TYPE)(view)
    return view


@blueprint.route("", methods=["POST"])
@_documented
@blueprint.arguments(LeaseSchema)
@blueprint.response(200, GrantSchema)
@requires("check")
def create_lease(sent: dict[str, Any]) -> Response:
    """Grant permits for a time, as many as every limit of all deciding rules has left, charged at once. Permits that
    are not returned count as used.
    """
    wired = services()
    check = Check(sent["client_id"], sent["limit_key"], sent["permits"], groups=sent["groups"])
    question = wired.check_handler.question(g.principal, check)
    try:
        grant = wired.leases.acquire(question, sent["ttl_ms"])
    except Unavailable as error:
        raise _without_redis(error) from error
    decision = wired.encoder.body(grant.decision)
    lease = {"lease_id": grant.lease_id, "granted": grant.granted, "expires_at": grant.expires_at}
    body = f"{json.dumps(lease, separators=(',', ':'))[:-1]},{decision[1:]}"
    return response_of(Reply(200, wired.encoder.head(grant.decision), body.encode()))


@blueprint.route("/<lease_id>/return", methods=["POST"])
@_documented
@blueprint.arguments(ReturnSchema)
@blueprint.response(200, ReturnedSchema)
@requires("check")
def return_lease(sent: dict[str, int], lease_id: str) -> dict[str, Any]:
    """Credit unused permits to the window that they were charged to. A repeated request gets the same answer."""
    leases = services().leases
    try:
        returned = leases.release(g.principal.tenant_id, lease_id, sent["unused"])
    except Unavailable as error:
        raise _without_redis(error) from error
    return {"lease_id": lease_id, "returned": returned}


def _without_redis(error: Unavailable) -> Problem:
    headers = {"Retry-After": str(error.retry_after_seconds)}
    return Problem(503, NOT_WITHOUT_REDIS, kind="cannot-decide", headers=headers)
