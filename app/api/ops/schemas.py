"""Health and the breaker, as marshmallow schemas."""

from __future__ import annotations

from marshmallow import Schema, fields, validate

from app.rules.rule import FAIL_MODES


class LifeSchema(Schema):
    status = fields.String(required=True)


class HealthSchema(Schema):
    """What works. `reasons`: a sentence for each cause why the node is degraded. A healthy node has none, or one about
    nodes that differ in FAIL_MODE or NODES, which decide nothing as long as Redis answers.

    `redis_available`: whether Redis can decide all checks. `without_redis`: what happens to checks while it cannot,
    where their rule says nothing. `rules_age_seconds`: since the rules were last confirmed current; null: none are
    known. `rules_notified`: whether this worker hears of changed rules at once; if not, polls find them in two seconds.
    `saved_rules_age_seconds`: since the rules on disk, by which a start without the database decides, were last
    confirmed current; null: there are none.
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
