"""Fields and schemas that refuse unknown, repeated or unbounded input; every other schema is built from them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from marshmallow import Schema, ValidationError, fields, missing, pre_load, validate
from webargs.multidictproxy import MultiDictProxy

from app.api.error_messages import MAX_ERRORS
from app.rules.rule import MAX_AMOUNT, MAX_GROUPS

MAX_CLIENT_ID = 256
MAX_LIMIT_KEY = 128
MAX_GROUP = 128
MAX_DESCRIPTION = 1000
MAX_MEMBERS = 100  # of an object; no schema has as many
MAX_MOMENT = 64  # characters of a time
NAME = re.compile(r"\A[A-Za-z0-9._-]{1,64}\Z")

# C0, DEL and C1 controls, and halves of surrogate pairs, which are no characters at all.
UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


def printable(value: str) -> None:
    """A validator: neither control characters nor lone surrogates."""
    if UNPRINTABLE.search(value):
        raise ValidationError("Control characters and lone surrogates are not allowed.")


def text_field(maximum: int, low: int = 1, **kwargs: Any) -> fields.String:
    """`low` to `maximum` printable characters."""
    return fields.String(validate=[validate.Length(low, maximum), printable], **kwargs)


def amount(low: int, high: int = MAX_AMOUNT, **kwargs: Any) -> fields.Integer:
    """An integer from `low` to `high`; no text, no 1.0."""
    return fields.Integer(strict=True, validate=validate.Range(low, high), **kwargs)


class Moment(fields.AwareDateTime):
    """A time in ISO 8601, converted to UTC, since PostgreSQL does not know every offset. A time without an offset is
    UTC.
    """

    default_error_messages = {"invalid": "Allowed is a time in ISO 8601, such as 2026-11-25T10:00:00Z."}

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(format="iso", default_timezone=UTC, **kwargs)

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> datetime:
        if isinstance(value, str) and len(value) > MAX_MOMENT:
            raise self.make_error("invalid", input=value, obj_type=self.OBJ_TYPE)
        try:
            return super()._deserialize(value, attr, data, **kwargs).astimezone(UTC)
        except OverflowError:  # before the year 1 or after 9999
            raise self.make_error("invalid", input=value, obj_type=self.OBJ_TYPE) from None


def name_field(**kwargs: Any) -> fields.String:
    """1 to 64 characters that need no escaping anywhere."""
    allowed = "Allowed are 1 to 64 of the letters A-Z and a-z, digits, '.', '_' and '-'."
    # Documented in the dialect of JSON Schema, which has no \A and \Z.
    documented = {"pattern": "^[A-Za-z0-9._-]{1,64}$"}
    return fields.String(validate=validate.Regexp(NAME, error=allowed), metadata=documented, **kwargs)


class Repeating(dict[str, Any]):
    """A JSON object that gives the member `name` more than once. JSON allows it; no schema here does."""

    def __init__(self, members: dict[str, Any], name: str) -> None:
        super().__init__(members)
        self.name = name


class StrictSchema(Schema):
    """Refuses unknown members (marshmallow's default) and repeated ones; bounds their number before it reads them."""

    error_messages = {"type": "This must be an object."}

    @pre_load
    def _refuse_repeated(self, data: Any, **_: Any) -> Any:
        if isinstance(data, Repeating):
            raise ValidationError("Given more than once.", data.name)
        if isinstance(data, dict) and len(data) > MAX_MEMBERS:
            raise ValidationError(f"There are {len(data)} members, at most {MAX_MEMBERS}.")
        return data


class BoundedList(fields.List[Any]):
    """`low` to `high` items, counted before any is read. At most MAX_ERRORS invalid items are reported.

    Items are complete, even in a partial object: a PATCH replaces a list, not parts of its items.
    """

    def __init__(self, item: fields.Field[Any], low: int, high: int, **kwargs: Any) -> None:
        self._refuse_length = validate.Length(low, high)
        super().__init__(item, validate=self._refuse_length, **kwargs)

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> list[Any]:
        if not isinstance(value, list):
            raise self.make_error("invalid")
        self._refuse_length(value)
        items, errors = [], {}
        for place, each in enumerate(value):
            try:
                items.append(self.inner.deserialize(each))
            except ValidationError as error:
                errors[place] = error.messages
                if len(errors) == MAX_ERRORS:
                    break
        if errors:
            raise ValidationError(errors)
        return items


class Groups(BoundedList):
    """The groups of a check: at most MAX_GROUPS, each once, in their order of precedence. Loads a tuple."""

    def __init__(self, **kwargs: Any) -> None:
        metadata = {"example": ["org:7", "plan:free"], "uniqueItems": True} | kwargs.pop("metadata", {})
        defaults: dict[str, Any] = {"load_default": (), "metadata": metadata}
        super().__init__(text_field(MAX_GROUP), 0, MAX_GROUPS, **(defaults | kwargs))

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> tuple[str, ...]:  # type: ignore[override]
        groups = tuple(super()._deserialize(value))
        if len(set(groups)) < len(groups):
            raise ValidationError("The groups of a check are distinct; one is given more than once.")
        return groups


class Flag(fields.Boolean):
    """true or false; not 1, "yes" or other values that marshmallow would accept."""

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> bool:
        if isinstance(value, bool):
            return value
        raise self.make_error("invalid", input=value)


class ReadOnly(fields.Field):
    """Members of answers that cannot be set. They are accepted, so that an answer can be sent back, and dropped.

    `schema`: of the member in answers, for the document. Nothing is validated against it.
    """

    def __init__(self, **schema: Any) -> None:
        super().__init__(metadata={"readOnly": True} | schema)

    def deserialize(self, *_: Any, **__: Any) -> Any:
        return missing


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
