"""The audit: each change with its author, time and request."""

from __future__ import annotations

from functools import partial
from typing import Any

from flask import g
from flask_smorest.pagination import PaginationParameters
from marshmallow import Schema, fields, validate

from app.api.auth import requires
from app.api.blueprint import StrictBlueprint, paged
from app.api.problems import Problem
from app.api.schemas import MAX_CLIENT_ID, MAX_GROUP, FilterSchema, Moment, text_field
from app.extensions import db
from app.rules.sql.history import AuditFilter, History

blueprint = StrictBlueprint("audit", __name__, url_prefix="/v1/admin", description="Audit")

MAX_TEXT = 300  # characters of a filter; the longest subject is a client's


class AuditFilterSchema(FilterSchema):
    """Filters of the audit. `since` is inclusive, `until` exclusive: 2026-11-25T10:00:00Z, or with another offset."""

    tenant_id = fields.Integer(
        validate=validate.Range(0, 2**31 - 1), metadata={"description": "another than one's own: with tenants:write"}
    )
    client_id = text_field(MAX_CLIENT_ID, metadata={"description": "of rules and of counters that were reset"})
    group = text_field(MAX_GROUP, metadata={"description": "of rules and of counters that were reset"})
    actor = text_field(MAX_TEXT, 0)
    action = text_field(MAX_TEXT, 0, metadata={"description": "rule.delete, or rule.* for all of rules"})
    subject = text_field(MAX_TEXT, 0)
    correlation_id = text_field(MAX_TEXT, 0)
    since = Moment()
    until = Moment()


class AuditEventSchema(Schema):
    """`before` and `after`: the state without secrets; null where nothing existed."""

    id = fields.Integer(required=True)
    at = fields.DateTime(required=True)
    actor = fields.String(required=True)
    action = fields.String(required=True)
    subject = fields.String(required=True)
    before = fields.Dict(required=True, allow_none=True)
    after = fields.Dict(required=True, allow_none=True)
    correlation_id = fields.String(required=True)


@blueprint.route("/audit", methods=["GET"])
@blueprint.arguments(AuditFilterSchema, location="query")
@blueprint.response(200, AuditEventSchema(many=True))
@blueprint.paginate()
@requires("audit:read")
def list_audit_events(filters: dict[str, Any], pagination_parameters: PaginationParameters) -> list[Any]:
    """List the tenant's audit, newest first. Events are deleted by the retention only, and never changed."""
    tenant_id = filters.pop("tenant_id", g.principal.tenant_id)
    if tenant_id != g.principal.tenant_id and "tenants:write" not in g.principal.scopes:
        detail = "the API key lacks the scope tenants:write, which another tenant's audit needs"
        raise Problem(403, detail, kind="scope-missing")
    return paged(pagination_parameters, partial(History(db.session(), tenant_id).events, AuditFilter(**filters)))
