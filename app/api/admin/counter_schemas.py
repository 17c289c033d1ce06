"""Queries about counters and their answers, as marshmallow schemas."""

from __future__ import annotations

from typing import Any

from marshmallow import Schema, ValidationError, fields, validate, validates_schema

from app.api.check.schemas import NO_RULE_ID, RULE_ID
from app.api.schemas import (
    MAX_CLIENT_ID,
    MAX_GROUP,
    MAX_LIMIT_KEY,
    FilterSchema,
    Groups,
    QuerySchema,
    StrictSchema,
    amount,
    text_field,
)

# Other members of a check: allowed, so that a check can be sent as it is, and ignored.
CHECK_FIELDS = ("cost", "request_id")
MAX_RULE_ID = 2**63 - 1
WHOSE = ("client_id", "group", "rule_id")
OF_A_CLIENT = ("groups", "limit_key")


class _Whose(Schema):
    """Exactly one of WHOSE says whose counters are meant."""

    @validates_schema
    def _one_of(self, sent: dict[str, Any], **_: Any) -> None:
        given = [name for name in WHOSE if name in sent]
        if len(given) != 1:
            raise ValidationError("Exactly one of client_id, group and rule_id is needed.", (given or WHOSE)[0])
        if given != ["client_id"]:
            wrong = {name: ["It goes with client_id only."] for name in OF_A_CLIENT if sent.get(name)}
            if wrong:
                raise ValidationError(wrong)


class CounterQuerySchema(FilterSchema, _Whose):
    """Selects the counters of one client, one group or one shared client rule."""

    beside = (*FilterSchema.beside, "limit_key", *CHECK_FIELDS)

    client_id = text_field(MAX_CLIENT_ID)
    groups = Groups(metadata={"description": "of the client: with the counters under the rules of these groups"})
    group = text_field(MAX_GROUP, metadata={"example": "org:7"})
    rule_id = fields.Integer(validate=validate.Range(1, MAX_RULE_ID))


class QuestionSchema(QuerySchema):
    beside = CHECK_FIELDS

    client_id = text_field(MAX_CLIENT_ID, required=True)
    limit_key = text_field(MAX_LIMIT_KEY, load_default="global")
    groups = Groups()


class ResetSchema(StrictSchema, _Whose):
    """Selects the counters to reset: of one client, one group or one shared client rule.

    For a client without `limit_key`, the counters under every rule that can decide one of its checks are reset. Without
    `groups`, this includes the counters under rules for any group.
    """

    client_id = text_field(MAX_CLIENT_ID)
    limit_key = text_field(MAX_LIMIT_KEY)
    groups = Groups(load_default=None)
    group = text_field(MAX_GROUP, metadata={"example": "org:7"})
    rule_id = amount(1, MAX_RULE_ID)


class CounterSchema(Schema):
    """One limit of a rule, for its owner: the client in question, or all that share it. `client_id`, `group` and
    `endpoint` are the rule's.
    """

    rule_id = fields.Raw(required=True, metadata=RULE_ID)
    client_id = fields.String(required=True, allow_none=True)
    group = fields.String(required=True, allow_none=True)
    layer = fields.String(required=True)
    shared = fields.Boolean(required=True)
    endpoint = fields.String(required=True, allow_none=True)
    shadow = fields.Boolean(required=True)
    rate = fields.Integer(required=True)
    window = fields.Integer(required=True, metadata={"description": "seconds"})
    algorithm = fields.String(required=True)
    limit = fields.Integer(required=True, metadata={"description": "the most that can be admitted at once"})
    remaining = fields.Integer(required=True)
    reset_at = fields.Float(required=True, metadata={"description": "Unix time at which remaining is back at limit"})


class CandidateSchema(Schema):
    """A rule that matches the client or one of its groups. `why`: the reason that it wins or does not; a shadow wins
    beside the enforced rule.

    `hidden_by`: the rule of its layer that decides for this client instead, whatever the limit_key.
    """

    rule_id = fields.Raw(required=True, metadata=RULE_ID)
    client_id = fields.String(required=True, allow_none=True)
    group = fields.String(required=True, allow_none=True)
    layer = fields.String(required=True)
    shared = fields.Boolean(required=True)
    endpoint = fields.String(required=True, allow_none=True)
    action = fields.String(required=True)
    shadow = fields.Boolean(required=True)
    enabled = fields.Boolean(required=True)
    wins = fields.Boolean(required=True)
    why = fields.String(required=True)
    hidden_by = fields.Raw(required=True, metadata=NO_RULE_ID)
    counters = fields.List(fields.Nested(CounterSchema), required=True)


class DecidingLayerSchema(Schema):
    """A layer that decides: its rule, and the shadow that is decided beside."""

    layer = fields.String(required=True)
    rule_id = fields.Raw(required=True, metadata=NO_RULE_ID)
    shadow_rule_id = fields.Raw(required=True, metadata=NO_RULE_ID)


class ExplanationSchema(Schema):
    client_id = fields.String(required=True)
    limit_key = fields.String(required=True)
    groups = fields.List(fields.String(), required=True)
    rules_version = fields.Integer(required=True)
    rule_id = fields.Raw(
        required=True, metadata=RULE_ID | {"description": "the rule that decides in the layer default"}
    )
    shadow_rule_id = fields.Raw(required=True, metadata=NO_RULE_ID)
    layers = fields.List(
        fields.Nested(DecidingLayerSchema),
        required=True,
        metadata={"description": "every layer that decides; all of their rules must admit"},
    )
    candidates = fields.List(fields.Nested(CandidateSchema), required=True)
