"""What operators may send about rules and what they get, as marshmallow schemas."""

from __future__ import annotations

from typing import Any

from marshmallow import Schema, fields, validate

from app.api.admin.rules.schemas import RuleSchema, StoredRuleSchema
from app.api.query_schemas import FilterSchema, QuerySchema, Switch
from app.api.schemas import MAX_CLIENT_ID, MAX_LIMIT_KEY, BoundedList, StrictSchema, text_field
from app.rules.rule import ACTIONS
from app.rules.sql.changes import MAX_RULES


class RulePatchSchema(RuleSchema):
    """The fields of a rule that are to change. `rate`, `window`, `algorithm` and `burst` are those of the first limit,
    whose others stay; `limits` replaces all."""

    of_stored = True

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs | {"partial": True})


class RuleFilterSchema(FilterSchema):
    """Filters of the list of rules."""

    client_id = text_field(MAX_CLIENT_ID, 0, metadata={"description": "exactly this client or pattern"})
    endpoint = text_field(MAX_LIMIT_KEY, 0)
    action = fields.String(validate=validate.OneOf(ACTIONS))
    enabled = Switch()
    shadow = Switch()


class RuleDeletionSchema(QuerySchema):
    dry_run = Switch(load_default=False, metadata={"description": "delete nothing, only say what would change"})


class RuleVersionSchema(StoredRuleSchema):
    """The rule as it was. `updated_at`: since when; `changes`: field -> from, to, against the version before."""

    class Meta:
        exclude = ("created_at",)

    actor = fields.String(required=True)
    change = fields.String(required=True, metadata={"description": "rule.create, rule.replace, rule.update, …"})
    changes = fields.Dict(keys=fields.String(), required=True, allow_none=True)


class RollbackSchema(StrictSchema):
    version = fields.Integer(strict=True, required=True, validate=validate.Range(1, 2**31 - 1))


class ImportOptionsSchema(QuerySchema):
    dry_run = Switch(load_default=False, metadata={"description": "answer what it would change, change nothing"})
    replace = Switch(load_default=False, metadata={"description": "also delete the rules that the file does not have"})


class ImportSchema(StrictSchema):
    """A file of rules. Read by app/api/admin/import_export/rule_files.py; this documents it."""

    rules = BoundedList(fields.Nested(RuleSchema), 0, MAX_RULES, required=True)


class FileRuleSchema(RuleSchema):
    """A rule as files have it: what says nothing is left out."""

    class Meta:
        exclude = ("id", "version", "created_at", "updated_at", "warnings")


class ExportSchema(Schema):
    """All rules of a tenant."""

    rules = fields.List(fields.Nested(FileRuleSchema), required=True)


class MergedRuleSchema(Schema):
    """`changes`: field -> from, to. `id` is null where a dry run would create the rule."""

    id = fields.Integer(required=True, allow_none=True)
    client_id = fields.String(required=True)
    endpoint = fields.String(required=True, allow_none=True)
    shadow = fields.Boolean(required=True)
    changes = fields.Dict(keys=fields.String(), required=True)


class MergeSchema(Schema):
    dry_run = fields.Boolean(required=True)
    created = fields.List(fields.Nested(MergedRuleSchema), required=True)
    replaced = fields.List(fields.Nested(MergedRuleSchema), required=True)
    deleted = fields.List(fields.Nested(MergedRuleSchema), required=True)
    unchanged = fields.List(fields.Nested(MergedRuleSchema), required=True)
    warnings = fields.List(
        fields.String(),
        metadata={"description": "where there are any: rules that do not decide for some, or do again; at most 100"},
    )
