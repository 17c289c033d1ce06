"""For Flask: `RateLimits(app)` limits every request, `@limits.limit("login")` a view."""

from __future__ import annotations

import functools
from typing import Any, Callable, Sequence, TypeVar
from weakref import WeakKeyDictionary

from flask import Flask, Response, current_app, g, request
from werkzeug.exceptions import default_exceptions

from ratelimiter_client.arguments import limit_name, pairs
from ratelimiter_client.decision import Decision
from ratelimiter_client.denials import denial
from ratelimiter_client.gate import DECISION, Gate, Limit, Who, tighter
from ratelimiter_client.settings import configured
from ratelimiter_client.unnamed import DEFAULT_KEY

F = TypeVar("F", bound=Callable[..., Any])

PREFIX = "RATELIMITER_"


class RateLimits:
    """The extension. Its settings are those of RateLimiter and Gate: from `app.config` (`RATELIMITER_URL`,
    `RATELIMITER_LIMIT_KEY`, …), or `options` with the same names (`url`, `limit_key`, …), which win.

    `limits=()` limits only the views that are decorated. A denial is the HTTP error 429 (503 where fail mode "closed"
    denies), with a problem document unless the application has an error handler for it. `app.test_client()` and the
    functions of `identify` see the request as ever: `flask.request`, `flask.session`.
    """

    def __init__(self, app: Flask | None = None, **options: Any) -> None:
        self._options = options
        self._gates: WeakKeyDictionary[Flask, Gate] = WeakKeyDictionary()
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Raises TypeError or ValueError for wrong settings."""
        settings = {**app.config.get_namespace(PREFIX), **self._options}
        every_request = settings.get("limits") not in ((), [])
        if not every_request:  # a gate refuses that: where no view is decorated it would limit nothing
            del settings["limits"]
        self._gates[app] = configured(settings)
        app.extensions["ratelimiter"] = self
        if every_request:
            app.before_request(self._limit_request)
        app.after_request(_with_headers)

    def limit(self, limit_key: str = DEFAULT_KEY, identify: Who = None) -> Callable[[F], F]:
        """Limits a view, besides what limits every request. `identify`: as the extension's where it is not given."""
        limits = [Limit(*pair) for pair in pairs([(identify, limit_name(limit_key))])]

        def decorate(view: F) -> F:
            @functools.wraps(view)
            def limited(*args: Any, **kwargs: Any) -> Any:
                self._limit_request(limits)
                return view(*args, **kwargs)

            return limited  # type: ignore[return-value]

        return decorate

    def _limit_request(self, limits: Sequence[Limit] | None = None) -> None:
        gate = self._gates.get(current_app._get_current_object())  # type: ignore[attr-defined]
        if gate is None:
            raise RuntimeError("init_app was not called")
        decision = gate.decide(request.environ, limits)
        if decision is None:
            return
        if not decision.allowed:
            _refuse(decision)
        request.environ[DECISION] = decision = tighter(request.environ.get(DECISION), decision)
        g.ratelimiter_headers = decision.headers


def _refuse(decision: Decision) -> None:
    status, g.ratelimiter_headers, body = denial(decision, request.environ)
    raise default_exceptions[status](response=Response(body, status, content_type="application/problem+json"))


def _with_headers(response: Response) -> Response:
    for name, value in g.pop("ratelimiter_headers", ()):
        response.headers[name] = value
    return response
