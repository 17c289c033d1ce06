"""API keys: create, list, rotate, revoke."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from typing import Any

from flask import g
from flask_smorest.pagination import PaginationParameters
from marshmallow import ValidationError

from app.api.admin.api_key_schemas import KeyFilterSchema, KeyRevocationSchema, KeySchema, NewKeySchema, RotationSchema
from app.api.admin.rules.routes import refresh
from app.api.admin.tenants import ALL_TENANTS
from app.api.auth import author, requires
from app.api.blueprint import StrictBlueprint, name_in_path, paged
from app.api.problems import Problem
from app.api.services import services
from app.extensions import db
from app.rules.sql.access.api_keys import ApiKeys, KeyRecord, can_expire_at
from app.rules.sql.access.tenants import Tenants

blueprint = StrictBlueprint("api_keys", __name__, url_prefix="/v1/admin", description="Tenants and API keys")


@blueprint.route("/api-keys", methods=["GET"])
@blueprint.arguments(KeyFilterSchema, location="query")
@blueprint.response(200, KeySchema(many=True))
@blueprint.paginate()
@requires("keys:write")
def list_keys(filters: dict[str, Any], pagination_parameters: PaginationParameters) -> list[KeyRecord]:
    """List the tenant's valid keys, or its revoked ones, oldest first."""
    keys = ApiKeys(db.session(), _tenant_id(filters.get("tenant")))
    return paged(pagination_parameters, partial(keys.page, revoked=filters["revoked"]))


@blueprint.route("/api-keys", methods=["POST"])
@blueprint.arguments(KeySchema)
@blueprint.response(201, NewKeySchema)
@requires("keys:write")
def create_key(sent: dict[str, Any]) -> dict[str, Any]:
    """Make a key. Only this answer shows it.

    Its scopes must be among those of the caller's key. It expires with that key at the latest (by default).
    """
    tenant_id, expires_at = _tenant_id(sent.get("tenant")), sent.get("expires_at")
    if expires_at is not None and not can_expire_at(expires_at, _now()):
        raise ValidationError("This must be in the future, and within 100 years.", "expires_at")
    return _key_answer(*_keys().create(tenant_id, sent["name"], sent["scopes"], expires_at, author()))


@blueprint.route("/api-keys/<key_id>/rotate", methods=["POST"])
@blueprint.arguments(RotationSchema)
@blueprint.response(201, NewKeySchema)
@requires("keys:write")
def rotate_key(sent: dict[str, int], key_id: str) -> dict[str, Any]:
    """Make a key with the same name, scopes and expiry. The old one stays valid for the overlap.

    Refused for a key that has a scope that the caller's key lacks, or that outlives it.
    """
    return _key_answer(*_keys().rotate(name_in_path(key_id), sent["overlap_seconds"], author()))


@blueprint.route("/api-keys/<key_id>", methods=["DELETE"])
@blueprint.arguments(KeyRevocationSchema, location="query")
@blueprint.response(204)
@requires("keys:write")
def revoke_key(sent: dict[str, bool], key_id: str) -> None:
    """Revoke the key on all nodes within a second. Refused for a key that has a scope that the caller's key lacks.

    Keys that it made stay valid, unless `children=true`: then its rotations are revoked, and all keys that any of them
    made.
    """
    _keys().revoke(name_in_path(key_id), author(), children=sent["children"])
    refresh()


def _keys() -> ApiKeys:
    """The keys that the caller may read and change."""
    tenant_id = None if ALL_TENANTS in g.principal.scopes else g.principal.tenant_id
    return ApiKeys(db.session(), tenant_id, requested_by=g.principal.key_id)


def _now() -> datetime:
    return datetime.fromtimestamp(services().clock(), UTC)


def _tenant_id(name: str | None) -> int:
    """The tenant with that name, by default the caller's own. Without `tenants:write` every other name gets the same
    403.
    """
    if name is None:
        own: int = g.principal.tenant_id
        return own
    tenant = Tenants(db.session(), g.principal.tenant_id).named(name)
    if ALL_TENANTS not in g.principal.scopes and (tenant is None or tenant.id != g.principal.tenant_id):
        raise Problem(
            403, f"the API key lacks the scope {ALL_TENANTS}, which another tenant's keys need", kind="scope-missing"
        )
    if tenant is None:
        raise ValidationError("There is no tenant of that name.", "tenant")
    return tenant.id


def _key_answer(record: KeyRecord, key: str) -> dict[str, Any]:
    refresh()
    return {"key": key} | {name: getattr(record, name) for name in KeySchema().fields}
