"""Requests about stored rules, as marshmallow schemas."""

from __future__ import annotations

from typing import Any

from marshmallow import fields, validate

from app.api.admin.rules.schemas import RuleSchema, StoredRuleSchema, layer_field
from app.api.schemas import (
    MAX_CLIENT_ID,
    MAX_GROUP,
    MAX_LIMIT_KEY,
    FilterSchema,
    QuerySchema,
    StrictSchema,
    Switch,
    text_field,
)
from app.rules.rule import ACTIONS


class RulePatchSchema(RuleSchema):
    """The fields of a rule to change. `rate`, `window`, `algorithm` and `burst` are those of the first limit, and the
    other limits stay; `limits` replaces all.
    """

    of_stored = True

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs | {"partial": True})


class RuleFilterSchema(FilterSchema):
    """Filters of the list of rules."""

    client_id = text_field(MAX_CLIENT_ID, 0, metadata={"description": "exactly this client or pattern"})
    group = text_field(MAX_GROUP, 0, metadata={"description": "exactly this group or pattern"})
    layer = layer_field()
    shared = Switch()
    endpoint = text_field(MAX_LIMIT_KEY, 0)
    action = fields.String(validate=validate.OneOf(ACTIONS))
    enabled = Switch()
    shadow = Switch()


class RuleDeletionSchema(QuerySchema):
    dry_run = Switch(load_default=False, metadata={"description": "delete nothing, only say what would change"})


class RuleVersionSchema(StoredRuleSchema):
    """The rule at a version. `updated_at`: start of the version; `changes`: field -> from, to, against the previous
    one.
    """

    class Meta:
        exclude = ("created_at",)

    actor = fields.String(required=True)
    change = fields.String(required=True, metadata={"description": "rule.create, rule.replace, rule.update, …"})
    changes = fields.Dict(keys=fields.String(), required=True, allow_none=True)


class RollbackSchema(StrictSchema):
    version = fields.Integer(strict=True, required=True, validate=validate.Range(1, 2**31 - 1))
