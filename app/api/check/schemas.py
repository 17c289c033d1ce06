"""Checks and their answers, as marshmallow schemas."""

from __future__ import annotations

from marshmallow import Schema, fields, validate

from app.api.schemas import (
    MAX_CLIENT_ID,
    MAX_LIMIT_KEY,
    BoundedList,
    Flag,
    Groups,
    StrictSchema,
    amount,
    name_field,
    text_field,
)
from app.rules.rule import ALGORITHMS

MAX_BATCH = 1000


class CheckSchema(StrictSchema):
    """A check: may this client do this now?"""

    client_id = text_field(MAX_CLIENT_ID, required=True, metadata={"example": "user_123"})
    limit_key = text_field(MAX_LIMIT_KEY, load_default="global", metadata={"example": "login"})
    cost = amount(0, load_default=1, metadata={"description": "units to consume; 0 looks without consuming"})
    request_id = name_field()
    groups = Groups()


class BatchSchema(StrictSchema):
    """Up to 1000 checks, decided in order: independent of each other, or `together`."""

    checks = BoundedList(fields.Nested(CheckSchema), 1, MAX_BATCH, required=True)
    together = Flag(
        load_default=False, metadata={"description": "all checks are admitted and charged, or none of them is"}
    )
    headers = Flag(
        load_default=False,
        metadata={"description": "each decision has `headers`: those of a single answer, by name"},
    )


DECISION_REASONS = (
    "within_limit",
    "over_limit",
    "cost_exceeds_limit",
    "allowed_by_rule",
    "blocked_by_rule",
    "shadow",
    "degraded",
)
RULE_ID = {"oneOf": [{"$ref": "#/components/schemas/DefaultRule"}, {"type": "integer"}]}
NO_RULE_ID = {"oneOf": [{"type": "null"}, *RULE_ID["oneOf"]]}


class DecisionSchema(Schema):
    """The answer to a check. The encoder builds it without this schema, which documents it."""

    allowed = fields.Boolean(required=True)
    remaining = fields.Integer(required=True)
    retry_after_ms = fields.Integer(
        required=True, allow_none=True, metadata={"description": "0 when allowed; null when waiting never helps"}
    )
    limit = fields.Integer(required=True)
    window = fields.Integer(required=True, metadata={"description": "seconds"})
    reset_at = fields.Float(required=True, metadata={"description": "Unix time at which remaining is back at limit"})
    algorithm = fields.String(required=True, allow_none=True, validate=validate.OneOf(ALGORITHMS))
    rule_id = fields.Raw(required=True, metadata=RULE_ID)
    reason = fields.String(required=True)
    degraded = fields.Boolean(required=True)


class BatchDecisionSchema(DecisionSchema):
    """A decision in a batch."""

    headers = fields.Dict(
        keys=fields.String(), values=fields.String(), metadata={"description": "where the request has `headers`"}
    )


class BatchResultSchema(Schema):
    """The results, in the order of the checks. document.py adds the problem of a check that could not be decided."""

    results = fields.List(fields.Nested(BatchDecisionSchema), required=True)
