"""Health and the breaker, as marshmallow schemas."""

from __future__ import annotations

from marshmallow import Schema, fields, validate

from app.rules.rule import FAIL_MODES


class LifeSchema(Schema):
    status = fields.String(required=True)


class HealthSchema(Schema):
    """The state of the node. `reasons`: a sentence for each cause why the node is degraded. A healthy node has none, or
    one about nodes that differ in FAIL_MODE or NODES, which decide nothing while Redis answers.

    `redis_available`: whether Redis can decide all checks. `without_redis`: the treatment of checks while it cannot,
    for rules without a fail_mode. `rules_age_seconds`: time since the rules were last confirmed current; null: none are
    known. `rules_notified`: whether this worker is notified of changed rules; otherwise polls find them within two
    seconds.

    `saved_rules_age_seconds`: time since the rules on disk were last confirmed current; null: there are none. A start
    without the database uses them.
    """

    status = fields.String(required=True, validate=validate.OneOf(("healthy", "degraded")))
    reasons = fields.List(fields.String(), required=True)
    service = fields.String(required=True)
    version = fields.String(required=True, metadata={"description": "of the service"})
    redis_available = fields.Boolean(required=True)
    fail_mode = fields.String(required=True, validate=validate.OneOf(FAIL_MODES))
    without_redis = fields.String(required=True)
    database_available = fields.Boolean(required=True)
    rules_version = fields.Integer(required=True, allow_none=True)
    rules_age_seconds = fields.Float(required=True, allow_none=True)
    rules_notified = fields.Boolean(required=True)
    saved_rules_age_seconds = fields.Float(required=True, allow_none=True)


class BreakerSchema(Schema):
    state = fields.String(required=True, validate=validate.OneOf(("closed", "open", "half_open")))
    failure_count = fields.Integer(required=True)
    time_until_retry_seconds = fields.Float(required=True)
