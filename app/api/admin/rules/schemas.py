"""Rules in requests and in answers, as marshmallow schemas."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from marshmallow import Schema, ValidationError, fields, post_load, pre_load, validate, validates, validates_schema

from app.api.schemas import (
    MAX_CLIENT_ID,
    MAX_DESCRIPTION,
    MAX_GROUP,
    MAX_LIMIT_KEY,
    BoundedList,
    Flag,
    ReadOnly,
    StrictSchema,
    amount,
    text_field,
)
from app.rules.documents import OWNER
from app.rules.matching.glob import MAX_STARS, stars
from app.rules.matching.networks import problem_of
from app.rules.rule import (
    ACTIONS,
    ALGORITHMS,
    BUCKET_ALGORITHMS,
    DEFAULT_LAYER,
    FAIL_MODES,
    LAYER,
    MAX_LIMITS,
    MAX_LOGGED_RATE,
    MAX_RATE_TIMES_WINDOW,
    MAX_WINDOW_SECONDS,
)


def client_pattern_field() -> fields.String:
    """The client of a rule, which may be a pattern; null in a rule for a group."""
    networks = "a network such as ip:10.0.0.0/8 for every ip: client that lies in it"
    metadata = {"description": f"exact, {networks}, a glob with at most {MAX_STARS} *, or * for all"}
    return text_field(MAX_CLIENT_ID, allow_none=True, load_default=None, metadata=metadata)


def group_pattern_field() -> fields.String:
    """The group of a rule, which may be a pattern; null in a rule for a client."""
    metadata = {"description": f"instead of a client_id: exact, or a glob with at most {MAX_STARS} *"}
    return text_field(MAX_GROUP, allow_none=True, load_default=None, metadata=metadata)


def layer_field(**kwargs: Any) -> fields.String:
    allowed = "Allowed are 1 to 32 of the letters a-z, digits, '_' and '-'."
    # Documented in the dialect of JSON Schema, which has no \A and \Z.
    valid = validate.Regexp(rf"\A{LAYER}\Z", error=allowed)
    return fields.String(validate=valid, metadata={"pattern": f"^{LAYER}$"}, **kwargs)


def one_owner(data: dict[str, Any]) -> None:
    """Raise ValidationError unless a rule is either for a client or for a group."""
    named = [name for name in OWNER if data.get(name) is not None]
    if not named:
        raise ValidationError("Missing data for required field: a client_id, or a group.", "client_id")
    if len(named) > 1:
        raise ValidationError("Give either client_id or group, not both.", "group")


def possible_client(client_id: str) -> None:
    """Raise ValidationError for a `client_id` that no new rule may have; stored rules may have it."""
    _has_few_stars(client_id, "client_id")
    possible_network(client_id)


def possible_group(group: str) -> None:
    """Raise ValidationError for a `group` that no new rule may have."""
    _has_few_stars(group, "group")


def _has_few_stars(pattern: str, name: str) -> None:
    if stars(pattern) > MAX_STARS:
        raise ValidationError(f"A pattern has at most {MAX_STARS} *, this one {stars(pattern)}.", name)


def possible_network(client_id: str) -> None:
    """A validator: an id that looks like a network is a network, in its only spelling."""
    if problem := problem_of(client_id):
        raise ValidationError(problem, "client_id")


class ClientToBlockSchema(StrictSchema):
    client_id = text_field(MAX_CLIENT_ID, required=True, metadata={"description": "an id, a network, or a pattern"})
    client_id.validators.append(possible_network)


class LimitSchema(StrictSchema):
    """`rate` units per `window` seconds."""

    rate = amount(1, required=True)
    window = amount(1, MAX_WINDOW_SECONDS, required=True)
    algorithm = fields.String(allow_none=True, load_default=None, validate=validate.OneOf(ALGORITHMS))
    burst = amount(1, allow_none=True, load_default=None)

    @validates_schema
    def _holds_together(self, data: dict[str, Any], **_: Any) -> None:
        refuse_impossible(data)


class Sent(dict[str, Any]):
    """The object that a schema has loaded. `names`: the members that were sent."""

    def __init__(self, members: dict[str, Any], names: Iterable[str]) -> None:
        super().__init__(members)
        self.names = frozenset(names)


class RuleSchema(StrictSchema):
    """A rule in a request: one limit by `rate` and `window`, or several by `limits`.

    An answer can be sent back. It has `limits` and, beside them, the fields of the first one: whichever was changed
    counts.
    """

    of_stored = False  # True: `rule_from` validates a client or group that differs from the stored one

    id = ReadOnly(type="integer")
    version = ReadOnly(type="integer")
    client_id = client_pattern_field()
    group = group_pattern_field()
    layer = layer_field(load_default=DEFAULT_LAYER)
    shared = Flag(
        load_default=False,
        metadata={"description": "one counter for all clients of a client_id, or for each value of a group"},
    )
    endpoint = text_field(
        MAX_LIMIT_KEY,
        allow_none=True,
        load_default=None,
        metadata={"description": "exactly this limit_key, of which * is one; null for every other"},
    )
    rate = amount(1, allow_none=True)
    window = amount(1, MAX_WINDOW_SECONDS, allow_none=True)
    algorithm = fields.String(allow_none=True, validate=validate.OneOf(ALGORITHMS))
    burst = amount(1, allow_none=True)
    limits = BoundedList(fields.Nested(LimitSchema), 0, MAX_LIMITS)
    action = fields.String(load_default="limit", validate=validate.OneOf(ACTIONS))
    fail_mode = fields.String(allow_none=True, load_default=None, validate=validate.OneOf(FAIL_MODES))
    shadow = Flag(load_default=False)
    enabled = Flag(load_default=True)
    description = text_field(MAX_DESCRIPTION, 0, load_default="")
    created_at = ReadOnly(type="string", format="date-time")
    updated_at = ReadOnly(type="string", format="date-time")
    warnings = ReadOnly(type="array", items={"type": "string"})

    @validates("client_id")
    def _possible_client(self, client_id: str | None, **_: Any) -> None:
        if client_id is not None and not self.of_stored:
            possible_client(client_id)

    @validates("group")
    def _possible_group(self, group: str | None, **_: Any) -> None:
        if group is not None and not self.of_stored:
            possible_group(group)

    @validates_schema
    def _of_one_owner(self, data: dict[str, Any], *, partial: Any, **_: Any) -> None:
        of_template = "client_id" not in self.fields
        if not (partial or of_template):
            one_owner(data)

    @pre_load
    def _refuse_limit_key(self, data: Any, **_: Any) -> Any:
        if isinstance(data, dict) and "limit_key" in data:
            raise ValidationError("In a rule this is called endpoint.", "limit_key")
        return data

    @post_load(pass_original=True)
    def _remember(self, data: dict[str, Any], original: dict[str, Any], **_: Any) -> Sent:
        return Sent(data, original)

    @validates_schema
    def _holds_together(self, data: dict[str, Any], *, partial: Any, **_: Any) -> None:
        if partial or data.get("limits"):  # fields beside limits are compared with the stored rule later
            return
        single = [name for name in ("rate", "window", "burst", "algorithm") if data.get(name) is not None]
        if data.get("action") in ("allow", "block") and not single:
            return
        if "limits" in data and not single:
            raise ValidationError("A rule that limits has at least one.", "limits")
        for name in ("rate", "window"):
            if data.get(name) is None:
                raise ValidationError("Missing data for required field.", name)
        refuse_impossible(data)


def schema_of_stored() -> RuleSchema:
    """The schema of a rule that replaces a stored one. OpenAPI shows it as RuleSchema."""
    schema = RuleSchema()
    schema.of_stored = True
    return schema


def refuse_impossible(limit: dict[str, Any]) -> None:
    """Raise ValidationError where the fields of a limit contradict each other."""
    algorithm, rate, burst = limit.get("algorithm"), limit["rate"], limit.get("burst")
    if max(rate, burst or 0) * limit["window"] > MAX_RATE_TIMES_WINDOW:
        message = f"rate or burst times window is at most {MAX_RATE_TIMES_WINDOW}."
        raise ValidationError(message, "rate" if rate >= (burst or 0) else "burst")
    if algorithm == "sliding_window" and rate > MAX_LOGGED_RATE:
        message = f"sliding_window logs every check: at most {MAX_LOGGED_RATE}. Above it use sliding_window_counter."
        raise ValidationError(message, "rate")
    if burst is not None and algorithm not in (None, *BUCKET_ALGORITHMS):
        raise ValidationError(f"burst goes with {' and '.join(BUCKET_ALGORITHMS)} only.", "burst")


class StoredRuleSchema(Schema):
    """A rule in an answer. `rate` and `window` are those of the first limit; `limits` has all."""

    id = fields.Integer(required=True)
    version = fields.Integer(required=True)
    client_id = fields.String(required=True, allow_none=True)
    group = fields.String(required=True, allow_none=True)
    layer = fields.String(required=True)
    shared = fields.Boolean(required=True)
    endpoint = fields.String(required=True, allow_none=True)
    rate = fields.Integer(required=True, allow_none=True)
    window = fields.Integer(required=True, allow_none=True)
    algorithm = fields.String(required=True, allow_none=True)
    burst = fields.Integer(required=True, allow_none=True)
    limits = fields.List(fields.Nested(LimitSchema), required=True)
    action = fields.String(required=True)
    fail_mode = fields.String(required=True, allow_none=True)
    shadow = fields.Boolean(required=True)
    enabled = fields.Boolean(required=True)
    description = fields.String(required=True)
    created_at = fields.DateTime(required=True)
    updated_at = fields.DateTime(required=True)


class RuleAnswerSchema(StoredRuleSchema):
    """One rule. `warnings` (if any) name rules that for some clients decide instead of this one, or no longer decide
    because of it. They also say if forward authentication never names a client of this rule.

    After a change they also name rules that decide again, and fields that were replaced without being sent.
    """

    warnings = fields.List(fields.String())
