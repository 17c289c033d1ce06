"""How the admin views read their bodies: by the same strict rules as checks."""

from __future__ import annotations

from typing import Any

from flask import Request
from marshmallow import Schema
from webargs.flaskparser import FlaskParser

from app.api.decoding import parsed, require_json

PAGES = {"page": 1, "page_size": 1000, "max_page_size": 1000}  # of every list; a rule takes about 500 bytes


class StrictParser(FlaskParser):
    """webargs' own reading of JSON takes any type and any duplicate, and lets deep nesting end as a 500."""

    def load_json(self, req: Request, schema: Schema) -> Any:  # noqa: ARG002 - the signature is webargs'
        require_json(req.mimetype)
        return parsed(req.get_data())
