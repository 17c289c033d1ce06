"""How views read what is sent: bodies by the same strict rules as checks, pages."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

from flask import Request, Response, current_app
from flask_smorest import Blueprint
from flask_smorest.pagination import PaginationParameters
from flask_smorest.utils import unpack_tuple_response
from marshmallow import Schema
from webargs.flaskparser import FlaskParser

from app.api.bodies import read_body
from app.api.decoding import parsed, require_json

T = TypeVar("T")

PAGES = {"page": 1, "page_size": 1000, "max_page_size": 1000}  # of every list; a rule takes about 500 bytes


class StrictParser(FlaskParser):
    """webargs' own reading of JSON takes any type and any duplicate, and lets deep nesting end as a 500."""

    def load_json(self, req: Request, schema: Schema) -> Any:  # noqa: ARG002 - the signature is webargs'
        require_json(req.mimetype)
        return parsed(read_body(req.environ))


class StrictBlueprint(Blueprint):
    ARGUMENTS_PARSER = StrictParser()
    DEFAULT_PAGINATION_PARAMETERS = PAGES

    def response(self, status_code: Any, schema: Any = None, **kwargs: Any) -> Any:
        """As everywhere, but lists are written item by item: a page of 1,000 long rules takes a fifth of a second."""
        documented = super().response(status_code, schema, **kwargs)
        if isinstance(schema, Schema) and schema.many:
            return lambda view: documented(_written_in_pieces(view, schema))
        return documented


def _written_in_pieces(view: Callable[..., Any], schema: Schema) -> Callable[..., Any]:
    @wraps(view)
    def answer(*args: Any, **kwargs: Any) -> tuple[Response, Any, Any]:
        items, status, headers = unpack_tuple_response(view(*args, **kwargs))
        pace, write = current_app.extensions["ratelimiter"].pace, current_app.json.dumps
        text = ",".join(write(schema.dump(item, many=False), separators=(",", ":")) for item in pace(items))
        return Response(f"[{text}]\n", content_type="application/json"), status, headers

    return answer


def paged(wanted: PaginationParameters, page: Callable[[int, int], tuple[list[T], int]]) -> list[T]:
    """The page that is wanted, of what `page` gives for an offset and a count: the rows, and how many there are."""
    rows, wanted.item_count = page(wanted.first_item, wanted.page_size)
    return rows
