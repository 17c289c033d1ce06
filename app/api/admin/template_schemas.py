"""Templates, as marshmallow schemas."""

from __future__ import annotations

from typing import Any

from marshmallow import Schema, ValidationError, fields, validates_schema

from app.api.admin.rules.schemas import (
    RuleSchema,
    StoredRuleSchema,
    client_pattern_field,
    group_pattern_field,
    one_owner,
    possible_client,
    possible_group,
)
from app.api.schemas import BoundedList, ReadOnly, StrictSchema, name_field

MAX_TEMPLATE_RULES = 20
OF_STORED_RULES = ("client_id", "group", "id", "version", "created_at", "updated_at")


class TemplateRuleSchema(RuleSchema):
    """A rule of a template, for the client or the group to which the template is applied."""

    class Meta:
        exclude = (*OF_STORED_RULES, "warnings")


class TemplateSchema(TemplateRuleSchema):
    """`rules`, or the fields of a single one."""

    name = name_field(required=True)  # part of paths
    builtin = ReadOnly(type="boolean")
    rules = BoundedList(fields.Nested(TemplateRuleSchema), 1, MAX_TEMPLATE_RULES)

    @validates_schema
    def _holds_together(self, data: dict[str, Any], *, partial: Any, **_: Any) -> None:
        if "rules" not in data:
            super()._holds_together(data, partial=partial)
        elif {"rate", "window", "limits"} & data.keys():
            raise ValidationError("Give either rules or the fields of one, not both.", "rules")

    @validates_schema
    def _one_each(self, data: dict[str, Any], **_: Any) -> None:
        places = [(rule["layer"], rule["endpoint"], rule["shadow"]) for rule in data.get("rules", ())]
        if len(set(places)) < len(places):
            raise ValidationError("Two of them are for the same layer and endpoint.", "rules")


class StoredTemplateRuleSchema(StoredRuleSchema):
    class Meta:
        exclude = OF_STORED_RULES


class StoredTemplateSchema(Schema):
    name = fields.String(required=True)
    description = fields.String(required=True)
    builtin = fields.Boolean(required=True)
    rules = fields.List(fields.Nested(StoredTemplateRuleSchema), required=True)


class ApplicationSchema(StrictSchema):
    client_id = client_pattern_field()
    client_id.validators.append(possible_client)
    group = group_pattern_field()
    group.validators.append(possible_group)

    @validates_schema
    def _of_one_owner(self, data: dict[str, Any], **_: Any) -> None:
        one_owner(data)
