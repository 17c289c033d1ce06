"""Who changed what, when, and in which request."""

from __future__ import annotations

from typing import Any

from flask import g
from flask_smorest import Blueprint
from flask_smorest.pagination import PaginationParameters

from app.api.admin_schemas import AuditEventSchema, AuditFilterSchema
from app.api.arguments import PAGES
from app.api.auth import requires
from app.api.problems import Problem
from app.extensions import db
from app.rules.history import AuditFilter, History

blueprint = Blueprint("audit", __name__, url_prefix="/v1/admin", description="Audit")
blueprint.DEFAULT_PAGINATION_PARAMETERS = PAGES


@blueprint.route("/audit", methods=["GET"])
@blueprint.arguments(AuditFilterSchema, location="query")
@blueprint.response(200, AuditEventSchema(many=True))
@blueprint.paginate()
@requires("audit:read")
def list_events(filters: dict[str, Any], pagination_parameters: PaginationParameters) -> list[Any]:
    """The tenant's audit, newest first. Nothing changes or deletes an event but the retention."""
    wanted, tenant_id = pagination_parameters, filters.pop("tenant_id", g.principal.tenant_id)
    if tenant_id != g.principal.tenant_id and "tenants:write" not in g.principal.scopes:
        raise Problem(403, "the API key lacks the scope tenants:write, which another tenant's audit needs")
    history = History(db.session(), tenant_id)
    events, wanted.item_count = history.events(AuditFilter(**filters), wanted.first_item, wanted.page_size)
    return events
