"""Tenants: list, create, delete."""

from __future__ import annotations

from typing import Any

from flask import g
from flask_smorest.pagination import PaginationParameters
from marshmallow import Schema, fields

from app.api.admin.rules.routes import refresh
from app.api.auth import author, requires
from app.api.blueprint import StrictBlueprint, paged
from app.api.schemas import QuerySchema, StrictSchema, Switch, text_field
from app.api.services import services
from app.extensions import db
from app.rules.rule import MAX_NAME
from app.rules.sql.access.tenants import Tenant, Tenants


class TenantSchema(StrictSchema):
    """A tenant owns rules and keys, which no other tenant can see."""

    id = fields.Integer(dump_only=True)
    name = text_field(MAX_NAME, required=True)
    created_at = fields.DateTime(dump_only=True)


class TenantDeletionSchema(QuerySchema):
    dry_run = Switch(load_default=False, metadata={"description": "answer what would go with it, delete nothing"})


class BelongingsSchema(Schema):
    """The numbers of rules and keys that are deleted with a tenant."""

    dry_run = fields.Boolean(required=True)
    name = fields.String(required=True)
    rules = fields.Integer(required=True)
    keys = fields.Integer(required=True)


blueprint = StrictBlueprint("tenants", __name__, url_prefix="/v1/admin", description="Tenants and API keys")

ALL_TENANTS = "tenants:write"


@blueprint.route("/tenants", methods=["GET"])
@blueprint.response(200, TenantSchema(many=True))
@blueprint.paginate()
@requires(ALL_TENANTS)
def list_tenants(pagination_parameters: PaginationParameters) -> list[Tenant]:
    """List all tenants, oldest first."""
    return paged(pagination_parameters, _tenants().page)


@blueprint.route("/tenants", methods=["POST"])
@blueprint.arguments(TenantSchema)
@blueprint.response(201, TenantSchema)
@requires(ALL_TENANTS)
def create_tenant(sent: dict[str, str]) -> Tenant:
    """Create a tenant. It needs a key before it can do anything."""
    return _tenants().create(sent["name"], author())


@blueprint.route("/tenants/<int:tenant_id>", methods=["DELETE"])
@blueprint.arguments(TenantDeletionSchema, location="query")
@blueprint.response(204)
@blueprint.alt_response(200, schema=BelongingsSchema, success=True)
@requires(ALL_TENANTS)
def delete_tenant(sent: dict[str, bool], tenant_id: int) -> tuple[dict[str, Any], int] | None:
    """Delete the tenant, its rules, keys and counters. `dry_run=true` only counts what would be deleted. Its audit
    stays.

    The counters are out of reach at once, and deleted from Redis some ten seconds later.
    """
    if sent["dry_run"]:
        return {"dry_run": True} | _tenants().belongings(tenant_id), 200
    _tenants().delete(tenant_id, author())
    refresh()
    services().tenant_cleanup.forget_soon(tenant_id)
    return None


def _tenants() -> Tenants:
    return Tenants(db.session(), g.principal.tenant_id)
