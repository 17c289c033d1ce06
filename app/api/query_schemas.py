"""Schemas of query parameters. Commands use them too, so this module imports nothing of the service."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from marshmallow import Schema, ValidationError, fields, pre_load
from webargs.multidictproxy import MultiDictProxy


class QuerySchema(Schema):
    """The parameters of a query. Unknown ones are refused: a misspelt filter would return the unfiltered list.

    A parameter given more than once is refused too, unless it is a list.
    """

    beside: tuple[str, ...] = ()  # parameters that others read from the same query

    @pre_load
    def _refuse_unknown(self, data: Mapping[str, Any], **_: Any) -> Mapping[str, Any]:
        allowed = [*self.fields, *self.beside]
        message = f"Unknown. Allowed {'are' if len(allowed) > 1 else 'is'} {', '.join(allowed)}."
        wrong = {name: [message] for name in data if name not in allowed}
        if isinstance(data, MultiDictProxy):  # a command passes a plain dict
            single = (name for name in allowed if name not in data.multiple_keys)
            wrong |= {name: ["Given more than once."] for name in single if len(data.getlist(name)) > 1}
        if wrong:
            raise ValidationError(wrong)
        return data


class FilterSchema(QuerySchema):
    """Filters of a paged list."""

    beside: tuple[str, ...] = ("page", "page_size")


class Switch(fields.Boolean):
    """true or false in a query, in any case, or 1 or 0."""

    truthy = {"true", "1"}
    falsy = {"false", "0"}
    default_error_messages = {"invalid": "Allowed are true, false, 1 and 0."}

    def _deserialize(self, value: str, *args: Any, **kwargs: Any) -> bool:
        return super()._deserialize(value.lower(), *args, **kwargs)
