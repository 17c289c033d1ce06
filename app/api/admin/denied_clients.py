"""The clients that run into their limits, for operators."""

from __future__ import annotations

from typing import Any

from flask import g
from flask_smorest import Page
from marshmallow import Schema, fields

from app.api.auth import requires
from app.api.blueprint import StrictBlueprint
from app.api.check.schemas import RULE_ID
from app.api.problems import Problem
from app.api.schemas import MAX_CLIENT_ID, FilterSchema, text_field
from app.api.services import services
from app.limiter.errors import StoreError

blueprint = StrictBlueprint("limited", __name__, description="The most denied clients")


class LimitedSchema(Schema):
    """A client and the least number of its checks that this rule denied in the last hour."""

    client_id = fields.String(required=True)
    rule_id = fields.Raw(required=True, metadata=RULE_ID)
    denied = fields.Integer(required=True)


class LimitedFilterSchema(FilterSchema):
    contains = text_field(MAX_CLIENT_ID, 0, load_default="", metadata={"description": "a part of the client's id"})


@blueprint.route("/v1/admin/limited", methods=["GET"])
@blueprint.arguments(LimitedFilterSchema, location="query")
@blueprint.response(200, LimitedSchema(many=True))
@blueprint.paginate(Page)
@requires("rules:read")
def list_limited_clients(filters: dict[str, str]) -> list[dict[str, Any]]:
    """List the tenant's clients with the most denials in the last hour on all nodes, at most 100, the most denied
    first.

    A denial appears a few seconds late.
    """
    try:
        most = services().denied_clients.most(g.principal.tenant_id, **filters)
    except StoreError as error:
        raise Problem(503, "Redis does not answer", kind="redis-unavailable", headers={"Retry-After": "1"}) from error
    return [entry._asdict() | {"rule_id": entry.rule_id or "default"} for entry in most]
