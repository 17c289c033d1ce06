"""Files of rules and the changes of an import, as marshmallow schemas."""

from __future__ import annotations

from marshmallow import Schema, fields

from app.api.admin.rules.schemas import RuleSchema
from app.api.schemas import BoundedList, QuerySchema, StrictSchema, Switch
from app.rules.sql.changes import MAX_RULES


class ImportOptionsSchema(QuerySchema):
    dry_run = Switch(load_default=False, metadata={"description": "answer what it would change, change nothing"})
    replace = Switch(load_default=False, metadata={"description": "also delete the rules that the file does not have"})


class ImportSchema(StrictSchema):
    """A file of rules. app/api/admin/import_export/rule_files.py reads it; this documents it."""

    rules = BoundedList(fields.Nested(RuleSchema), 0, MAX_RULES, required=True)


class FileRuleSchema(RuleSchema):
    """A rule in a file: members with their default values are omitted."""

    class Meta:
        exclude = ("id", "version", "created_at", "updated_at", "warnings")


class ExportSchema(Schema):
    """All rules of a tenant."""

    rules = fields.List(fields.Nested(FileRuleSchema), required=True)


class MergedRuleSchema(Schema):
    """`changes`: field -> from, to. `id` is null where a dry run would create the rule."""

    id = fields.Integer(required=True, allow_none=True)
    client_id = fields.String(required=True, allow_none=True)
    group = fields.String(required=True, allow_none=True)
    layer = fields.String(required=True)
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
