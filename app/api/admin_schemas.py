"""What operators may send and what they get, as marshmallow schemas."""

from __future__ import annotations

from typing import Any

from marshmallow import Schema, fields, validate

from app.api.schemas import RuleSchema, StoredRuleSchema, StrictSchema, printable
from app.rules.rule import ACTIONS


class Switch(fields.Boolean):
    """true or false, spelled so in a query."""

    truthy = {"true"}
    falsy = {"false"}


class RulePatchSchema(RuleSchema):
    """The fields of a rule that are to change. `limits`, and `rate` and `window`, replace each other."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs | {"partial": True})


class RuleFilterSchema(Schema):
    """Filters of the list of rules."""

    client_id = fields.String(validate=printable, metadata={"description": "exactly this client or pattern"})
    endpoint = fields.String(validate=printable)
    action = fields.String(validate=validate.OneOf(ACTIONS))
    enabled = Switch()
    shadow = Switch()


class RuleVersionSchema(StoredRuleSchema):
    """The rule as it was. `updated_at`: since when; `changes`: field -> from, to, against the version before."""

    class Meta:
        exclude = ("created_at",)

    actor = fields.String(required=True)
    change = fields.String(required=True, metadata={"description": "rule.create, rule.replace, rule.update, …"})
    changes = fields.Dict(keys=fields.String(), required=True, allow_none=True)


class RollbackSchema(StrictSchema):
    version = fields.Integer(strict=True, required=True, validate=validate.Range(1, 2**31 - 1))


class AuditFilterSchema(Schema):
    """Filters of the audit. `since` is inclusive, `until` exclusive."""

    actor = fields.String(validate=printable)
    action = fields.String(validate=printable)
    subject = fields.String(validate=printable)
    correlation_id = fields.String(validate=printable)
    since = fields.AwareDateTime(format="iso")
    until = fields.AwareDateTime(format="iso")


class AuditEventSchema(Schema):
    """`before` and `after`: what was changed, as far as it is no secret; null where there was, or is, nothing."""

    id = fields.Integer(required=True)
    at = fields.DateTime(required=True)
    actor = fields.String(required=True)
    action = fields.String(required=True)
    subject = fields.String(required=True)
    before = fields.Dict(required=True, allow_none=True)
    after = fields.Dict(required=True, allow_none=True)
    correlation_id = fields.String(required=True)
