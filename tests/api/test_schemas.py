"""Every list, text, number and time of every schema is bounded before the service looks at it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask
from marshmallow import Schema, fields, validate

from app.api.schemas import BoundedList, Flag, Moment, QuerySchema, ReadOnly, StrictSchema, Switch

ONE_OF_FEW = (Flag, Switch, Moment, ReadOnly)  # each bounds itself


def subclasses(kind: type[Schema]) -> Iterator[type[Schema]]:
    for each in kind.__subclasses__():
        yield each
        yield from subclasses(each)


def bounded(field: fields.Field[Any]) -> bool:
    validators = field.validators
    if isinstance(field, BoundedList):
        return bounded(field.inner)
    if isinstance(field, fields.Nested):
        return isinstance(field.schema, StrictSchema)  # which is walked by itself
    if isinstance(field, fields.Integer):
        return any(isinstance(each, validate.Range) and None not in (each.min, each.max) for each in validators)
    if isinstance(field, fields.String):
        lengths = (each.max for each in validators if isinstance(each, validate.Length))
        return any(lengths) or any(isinstance(each, validate.OneOf | validate.Regexp) for each in validators)
    return isinstance(field, ONE_OF_FEW)


def arguments(app: Flask) -> dict[str, list[Any]]:
    """By route, the schemas of what it reads; those that only document it too."""
    found: dict[str, list[Any]] = {}
    for rule in app.url_map.iter_rules():
        documented = getattr(app.view_functions[rule.endpoint], "_apidoc", {})
        schemas = [each["schema"] for each in documented.get("arguments", {}).get("parameters", ())]
        content = documented.get("manual_doc", {}).get("requestBody", {}).get("content", {})
        found[f"{sorted(rule.methods or ())} {rule}"] = schemas + [each["schema"] for each in content.values()]
    return found


def test_every_route_reads_by_schemas_that_bound(app: Flask) -> None:
    read = arguments(app)
    for route, schemas in read.items():
        for schema in schemas:
            kind = schema if isinstance(schema, type) else type(schema)
            assert issubclass(kind, StrictSchema | QuerySchema), route
    takes_a_body = [route for route in read if any(f"'{method}'" in route for method in ("POST", "PUT", "PATCH"))]
    assert len(takes_a_body) > 10
    assert [route for route in takes_a_body if not read[route]] == []


def test_every_field_that_a_caller_fills_is_bounded(app: Flask) -> None:
    assert app.blueprints  # every module with schemas was imported
    kinds = {*subclasses(StrictSchema), *subclasses(QuerySchema)}
    assert len(kinds) > 15
    without = [
        f"{kind.__name__}.{name}" for kind in kinds for name, field in kind().load_fields.items() if not bounded(field)
    ]
    assert without == []


@pytest.mark.parametrize(
    "field",
    [
        fields.List(fields.Integer(validate=validate.Range(0, 1)), validate=validate.Length(0, 1)),
        BoundedList(fields.String(), 0, 1),
        fields.String(),
        fields.String(validate=validate.Length(1)),
        fields.Integer(validate=validate.Range(0)),
        fields.Float(),
        fields.Dict(),
        fields.Raw(),
        fields.Boolean(),
        fields.DateTime(),
    ],
    ids=repr,
)
def test_what_bounds_nothing_is_found(field: fields.Field[Any]) -> None:
    assert not bounded(field)
