"""Queries about a client's counters and their answers, as marshmallow schemas."""

from __future__ import annotations

from marshmallow import Schema, fields

from app.api.check.schemas import NO_RULE_ID, RULE_ID
from app.api.schemas import MAX_CLIENT_ID, MAX_LIMIT_KEY, FilterSchema, QuerySchema, StrictSchema, text_field

# Other members of a check: allowed, so that a check can be sent as it is, and ignored.
CHECK_FIELDS = ("limit_key", "cost", "request_id")


class ClientSchema(FilterSchema):
    beside = (*FilterSchema.beside, *CHECK_FIELDS)

    client_id = text_field(MAX_CLIENT_ID, required=True)


class QuestionSchema(QuerySchema):
    beside = CHECK_FIELDS

    client_id = text_field(MAX_CLIENT_ID, required=True)
    limit_key = text_field(MAX_LIMIT_KEY, load_default="global")


class ResetSchema(StrictSchema):
    """Without `limit_key`: the counters of every rule that can decide a check of the client."""

    client_id = text_field(MAX_CLIENT_ID, required=True)
    limit_key = text_field(MAX_LIMIT_KEY)


class CounterSchema(Schema):
    """One limit of a rule, for the client in question. `client_id` and `endpoint` are the rule's."""

    rule_id = fields.Raw(required=True, metadata=RULE_ID)
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
    """A rule that matches the client. `why`: the reason that it wins or does not; a shadow wins beside the enforced
    rule.

    `hidden_by`: the rule that decides for this client instead, whatever the limit_key.
    """

    rule_id = fields.Raw(required=True, metadata=RULE_ID)
    client_id = fields.String(required=True)
    endpoint = fields.String(required=True, allow_none=True)
    action = fields.String(required=True)
    shadow = fields.Boolean(required=True)
    enabled = fields.Boolean(required=True)
    wins = fields.Boolean(required=True)
    why = fields.String(required=True)
    hidden_by = fields.Raw(required=True, metadata=NO_RULE_ID)
    counters = fields.List(fields.Nested(CounterSchema), required=True)


class ExplanationSchema(Schema):
    client_id = fields.String(required=True)
    limit_key = fields.String(required=True)
    rules_version = fields.Integer(required=True)
    rule_id = fields.Raw(required=True, metadata=RULE_ID | {"description": "the rule that decides"})
    shadow_rule_id = fields.Raw(required=True, metadata=NO_RULE_ID)
    candidates = fields.List(fields.Nested(CandidateSchema), required=True)
