"""What queries may say. Commands check by the same schemas, so this imports nothing of the service."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from marshmallow import Schema, ValidationError, fields, pre_load
from webargs.multidictproxy import MultiDictProxy


class QuerySchema(Schema):
    """What a query may say. All else is refused: the answer to a misspelt filter would look like one to a right one.

    So is a parameter that is given more than once, unless it is a list.
    """

    beside: tuple[str, ...] = ()  # what others read of the same query

    @pre_load
    def _refuse_unknown(self, data: Mapping[str, Any], **_: Any) -> Mapping[str, Any]:
        allowed = [*self.fields, *self.beside]
        message = f"Unknown. Allowed {'are' if len(allowed) > 1 else 'is'} {', '.join(allowed)}."
        wrong = {name: [message] for name in data if name not in allowed}
        if isinstance(data, MultiDictProxy):  # a command's is a plain one
            single = (name for name in allowed if name not in data.multiple_keys)
            wrong |= {name: ["Given more than once."] for name in single if len(data.getlist(name)) > 1}
        if wrong:
            raise ValidationError(wrong)
        return data


class FilterSchema(QuerySchema):
    """Filters of a list that comes in pages."""

    beside: tuple[str, ...] = ("page", "page_size")


class Switch(fields.Boolean):
    """true or false in a query, in capitals or not, or 1 or 0."""

    truthy = {"true", "1"}
    falsy = {"false", "0"}
    default_error_messages = {"invalid": "Allowed are true, false, 1 and 0."}

    def _deserialize(self, value: str, *args: Any, **kwargs: Any) -> bool:
        return super()._deserialize(value.lower(), *args, **kwargs)
