"""A header that keeps browsers from guessing what an answer is."""

from __future__ import annotations

from flask import Flask, Response, request

from app.api.auth import IN_HANDLER, stated


def init_app(app: Flask) -> None:
    """`X-Content-Type-Options: nosniff` on everything but checks: programs read those, and each byte counts there."""

    @app.after_request
    def forbid_guessing(response: Response) -> Response:
        if stated(app, request.endpoint) != IN_HANDLER:
            response.headers["X-Content-Type-Options"] = "nosniff"
        return response
