"""API keys, as marshmallow schemas."""

from __future__ import annotations

from marshmallow import fields, validate

from app.api.schemas import BoundedList, FilterSchema, Moment, QuerySchema, StrictSchema, Switch, text_field
from app.rules.api_key import SCOPES
from app.rules.rule import MAX_NAME

DAY_SECONDS = 86_400
MAX_OVERLAP_SECONDS = 30 * DAY_SECONDS


class KeySchema(StrictSchema):
    """`tenant`: a name, by default the caller's own; another tenant needs `tenants:write`."""

    id = fields.String(dump_only=True)
    tenant = text_field(MAX_NAME)
    name = text_field(MAX_NAME, required=True)
    scopes = BoundedList(fields.String(validate=validate.OneOf(SCOPES)), 1, len(SCOPES), required=True)
    owner = fields.String(
        dump_only=True,
        metadata={"description": "`/v1/authorize` counts the key as `key:` and this; its rotations share it"},
    )
    maker = fields.String(
        dump_only=True, allow_none=True, metadata={"description": "the id of the key that made it; null: an operator"}
    )
    rotation_of = fields.String(
        dump_only=True, allow_none=True, metadata={"description": "the id of the key that was rotated first"}
    )
    created_at = fields.DateTime(dump_only=True)
    expires_at = Moment(
        allow_none=True, metadata={"description": "at most that of the key that makes it, which is the default"}
    )
    revoked_at = fields.DateTime(dump_only=True, allow_none=True)
    last_used_at = fields.DateTime(
        dump_only=True, allow_none=True, metadata={"description": "to about a minute; null: never"}
    )


class NewKeySchema(KeySchema):
    key = fields.String(dump_only=True, required=True, metadata={"description": "shown this once"})


class KeyFilterSchema(FilterSchema):
    tenant = text_field(MAX_NAME, 0)
    revoked = Switch(load_default=False)


class KeyRevocationSchema(QuerySchema):
    children = Switch(
        load_default=False, metadata={"description": "revoke its rotations too, and all that any of them made"}
    )


class RotationSchema(StrictSchema):
    overlap_seconds = fields.Integer(
        strict=True,
        load_default=DAY_SECONDS,
        validate=validate.Range(0, MAX_OVERLAP_SECONDS),
        metadata={"description": "how long the old key goes on"},
    )
