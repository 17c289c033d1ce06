"""What operators may send and what they get, as marshmallow schemas."""

from __future__ import annotations

from datetime import UTC
from typing import Any

from marshmallow import Schema, ValidationError, fields, validate, validates_schema

from app.api.rule_files import MAX_FILE_RULES
from app.api.schemas import (
    MAX_CLIENT_ID,
    MAX_LIMIT_KEY,
    RuleSchema,
    StoredRuleSchema,
    StrictSchema,
    printable,
    text_field,
)
from app.rules.api_key import SCOPES
from app.rules.models import MAX_NAME
from app.rules.rule import ACTIONS

DAY_SECONDS = 86_400
MAX_TEMPLATE_RULES = 20
TEMPLATE_NAME = r"\A[A-Za-z0-9._-]{1,64}\Z"  # it stands in paths
MAX_OVERLAP_SECONDS = 30 * DAY_SECONDS


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


class ImportOptionsSchema(Schema):
    dry_run = Switch(load_default=False, metadata={"description": "answer what it would change, change nothing"})
    replace = Switch(load_default=False, metadata={"description": "also delete the rules that the file does not have"})


class ImportSchema(StrictSchema):
    """A file of rules. Read by app/api/rule_files.py; this documents it."""

    rules = fields.List(fields.Nested(RuleSchema), required=True, validate=validate.Length(0, MAX_FILE_RULES))


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


class TenantSchema(StrictSchema):
    """Owns rules and keys; what one tenant has no other can see."""

    id = fields.Integer(dump_only=True)
    name = text_field(MAX_NAME, required=True)
    created_at = fields.DateTime(dump_only=True)


class TenantDeletionSchema(Schema):
    confirm = Switch(load_default=False, metadata={"description": "delete its rules, keys and counters too"})


class KeySchema(StrictSchema):
    """`tenant`: a name, one's own by default; another one's needs `tenants:write`. `key` is shown this once."""

    id = fields.String(dump_only=True)
    tenant = text_field(MAX_NAME)
    name = text_field(MAX_NAME, required=True)
    scopes = fields.List(
        fields.String(validate=validate.OneOf(SCOPES)), required=True, validate=validate.Length(1, len(SCOPES))
    )
    created_at = fields.DateTime(dump_only=True)
    expires_at = fields.AwareDateTime(format="iso", default_timezone=UTC, allow_none=True)
    revoked_at = fields.DateTime(dump_only=True, allow_none=True)
    last_used_at = fields.DateTime(
        dump_only=True, allow_none=True, metadata={"description": "to about a minute; null: never"}
    )


class NewKeySchema(KeySchema):
    key = fields.String(dump_only=True, required=True, metadata={"description": "shown this once"})


class KeyFilterSchema(Schema):
    tenant = fields.String(validate=printable)
    revoked = Switch(load_default=False)


class RotationSchema(StrictSchema):
    overlap_seconds = fields.Integer(
        strict=True,
        load_default=DAY_SECONDS,
        validate=validate.Range(0, MAX_OVERLAP_SECONDS),
        metadata={"description": "how long the old key goes on"},
    )


class AuditFilterSchema(Schema):
    """Filters of the audit. `since` is inclusive, `until` exclusive."""

    tenant_id = fields.Integer(metadata={"description": "another than one's own: with tenants:write"})
    actor = fields.String(validate=printable)
    action = fields.String(validate=printable)
    subject = fields.String(validate=printable)
    correlation_id = fields.String(validate=printable)
    since = fields.AwareDateTime(format="iso", default_timezone=UTC)
    until = fields.AwareDateTime(format="iso", default_timezone=UTC)


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


class ClientSchema(Schema):
    client_id = text_field(MAX_CLIENT_ID, required=True)


class QuestionSchema(ClientSchema):
    limit_key = text_field(MAX_LIMIT_KEY, load_default="global")


class ResetSchema(StrictSchema):
    """Without `limit_key`: the counters of every rule that can decide a check of the client."""

    client_id = text_field(MAX_CLIENT_ID, required=True)
    limit_key = text_field(MAX_LIMIT_KEY)


class CounterSchema(Schema):
    """One limit of a rule, for the client that was asked about. `client_id` and `endpoint` are the rule's."""

    rule_id = fields.Raw(required=True, metadata={"description": 'a number, or "default"'})
    client_id = fields.String(required=True)
    endpoint = fields.String(required=True, allow_none=True)
    shadow = fields.Boolean(required=True)
    rate = fields.Integer(required=True)
    window = fields.Integer(required=True, metadata={"description": "seconds"})
    algorithm = fields.String(required=True)
    limit = fields.Integer(required=True, metadata={"description": "the most that can be admitted at once"})
    remaining = fields.Integer(required=True)
    reset_at = fields.Float(required=True, metadata={"description": "Unix time at which remaining is back at limit"})


class CandidateSchema(Schema):
    """A rule whose client matches. `why` it wins or does not; a shadow wins beside the enforced rule."""

    rule_id = fields.Raw(required=True)
    client_id = fields.String(required=True)
    endpoint = fields.String(required=True, allow_none=True)
    action = fields.String(required=True)
    shadow = fields.Boolean(required=True)
    enabled = fields.Boolean(required=True)
    wins = fields.Boolean(required=True)
    why = fields.String(required=True)
    counters = fields.List(fields.Nested(CounterSchema), required=True)


class ExplanationSchema(Schema):
    client_id = fields.String(required=True)
    limit_key = fields.String(required=True)
    rules_version = fields.Integer(required=True)
    rule_id = fields.Raw(required=True, metadata={"description": "the rule that decides"})
    shadow_rule_id = fields.Raw(required=True, allow_none=True)
    candidates = fields.List(fields.Nested(CandidateSchema), required=True)


class TemplateRuleSchema(RuleSchema):
    """A rule for whichever client the template will be applied to."""

    class Meta:
        exclude = ("client_id",)


class TemplateSchema(TemplateRuleSchema):
    """`rules`, or the fields of a single one."""

    name = fields.String(
        required=True, validate=validate.Regexp(TEMPLATE_NAME), metadata={"pattern": "^[A-Za-z0-9._-]{1,64}$"}
    )
    rules = fields.List(fields.Nested(TemplateRuleSchema), validate=validate.Length(1, MAX_TEMPLATE_RULES))

    @validates_schema
    def _holds_together(self, data: dict[str, Any], *, partial: Any, **_: Any) -> None:
        if "rules" not in data:
            super()._holds_together(data, partial=partial)
        elif {"rate", "window", "limits"} & data.keys():
            raise ValidationError("Give either rules or the fields of one, not both.", "rules")

    @validates_schema
    def _one_each(self, data: dict[str, Any], **_: Any) -> None:
        who = [(rule["endpoint"], rule["shadow"]) for rule in data.get("rules", ())]
        if len(set(who)) < len(who):
            raise ValidationError("Two of them are for the same endpoint.", "rules")


class StoredTemplateRuleSchema(StoredRuleSchema):
    class Meta:
        exclude = ("id", "version", "client_id", "created_at", "updated_at")


class StoredTemplateSchema(Schema):
    name = fields.String(required=True)
    description = fields.String(required=True)
    builtin = fields.Boolean(required=True)
    rules = fields.List(fields.Nested(StoredTemplateRuleSchema), required=True)


class ApplicationSchema(StrictSchema):
    client_id = text_field(MAX_CLIENT_ID, required=True, metadata={"description": "exact, a glob with *, or * for all"})
