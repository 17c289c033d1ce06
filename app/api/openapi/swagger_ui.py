"""GET /docs: Swagger UI for this API, from an installed package. Nothing is loaded from other servers."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

from flask import Response
from flask_smorest import Blueprint

from app.api import problem_kinds
from app.api.auth import public
from app.api.problems import Problem

ASSETS = {"swagger-ui.css": "text/css", "swagger-ui-bundle.js": "text/javascript"}
PROBLEMS = problem_kinds.PROBLEMS_PAGE.rpartition("/")[2]
# Paths are relative, so that the page also works below a proxy prefix.
PAGE_HTML = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>Distributed Rate Limiter: the API</title>
<link rel="stylesheet" href="docs/swagger-ui.css">
</head>
<body>
<div id="ui"></div>
<script src="docs/swagger-ui-bundle.js"></script>
<script>
// A key that may be left out counts as one that was given, so that the locks of checks would be shown closed.
const isAuthorized = (original) => (_, ways) => original(ways && ways.filter((way) => way.size))
const locks = {statePlugins: {auth: {wrapSelectors: {isAuthorized}}}}
SwaggerUIBundle({url: "openapi.json", dom_id: "#ui", validatorUrl: null, docExpansion: "list", plugins: [locks]})
</script>
</body>
</html>
"""
POLICY = (
    "default-src 'none'; connect-src 'self'; img-src 'self' data:; "
    "script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)

blueprint = Blueprint("docs", __name__, description="This page")


@blueprint.route("/docs")
@blueprint.response(200, {"type": "string"}, content_type="text/html")
@public
def docs() -> Response:
    """This API to read and to try. Works without the network."""
    return Response(PAGE_HTML, mimetype="text/html", headers={"Content-Security-Policy": POLICY})


@blueprint.route("/docs/<asset>")
@blueprint.response(200, {"type": "string"}, content_type="text/plain")
@public
def docs_asset(asset: str) -> Response:
    """Files of the page. `problems` lists the kinds of problems; the `type` of a problem links to its fragment."""
    if asset == PROBLEMS:
        return Response(problem_kinds.page(), mimetype="text/html", headers={"Content-Security-Policy": POLICY})
    if asset not in ASSETS:
        raise Problem(404, "there is no such file")
    return Response(_content(asset), mimetype=ASSETS[asset], headers={"Cache-Control": "max-age=86400"})


@cache
def _content(name: str) -> bytes:
    return files("flask_swagger_ui").joinpath("dist", name).read_bytes()
