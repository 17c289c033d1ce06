"""A span for each request that reaches Flask, except checks: the check handler traces those itself."""

from __future__ import annotations

from contextlib import ExitStack

from flask import Flask, Response, g, request

from app.observability.logs import correlation_id
from app.observability.tracing import Parent, answered, parent_of, within


def parent_of_request() -> Parent | None:
    return parent_of(request.headers.get("traceparent"), request.headers.get("tracestate"))


def init_app(app: Flask) -> None:
    """Name spans by route, because paths and queries hold ids. Requests that no route matches are not traced."""
    tracing = app.extensions["ratelimiter"].tracing
    if tracing is None:
        return

    @app.before_request
    def begin() -> None:
        if request.url_rule is None or request.blueprint == "check":
            return
        name = f"{request.method} {request.url_rule.rule}"
        span = tracing.begin(name, correlation_id.get(), parent_of_request())
        if span is not None:
            g.span, g.trace = span, ExitStack()
            g.trace.enter_context(within(span))

    @app.after_request
    def note(response: Response) -> Response:
        if "span" in g:
            answered(g.span, response.status_code)
        return response

    @app.teardown_request
    def end(_: BaseException | None) -> None:
        if "trace" in g:
            g.trace.close()
