"""Headers of every answer that Flask gives, whichever view made it."""

from __future__ import annotations

from flask import Flask, Response, request

from app.api.auth import IN_HANDLER, stated

KNOWN_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


def init_app(app: Flask) -> None:
    """Send `X-Content-Type-Options: nosniff` with every answer except checks, where programs read and each byte counts.

    A 204 has no Content-Type, and an invented method is no label of a metric.
    """

    @app.after_request
    def forbid_guessing(response: Response) -> Response:
        if stated(app, request.endpoint) != IN_HANDLER:
            response.headers["X-Content-Type-Options"] = "nosniff"
        return response

    app.after_request(_leave_out_the_type_of_nothing)
    app.after_request(_leave_out_invented_methods)


def _leave_out_the_type_of_nothing(response: Response) -> Response:
    """flask-smorest gives every answer the content type of JSON."""
    if response.status_code == 204:
        del response.headers["Content-Type"]
    return response


def _leave_out_invented_methods(response: Response) -> Response:
    """The method is a label of the request metrics, and callers can send any word as one."""
    if request.method not in KNOWN_METHODS:
        request.prom_do_not_track = True  # type: ignore[attr-defined]
    return response
