"""For Django: `"ratelimiter_client.django.RateLimitMiddleware"` in MIDDLEWARE, its settings in RATELIMITER."""

from __future__ import annotations

from typing import Callable

from django.conf import settings
from django.http import HttpRequest, HttpResponse

from ratelimiter_client.denials import denial
from ratelimiter_client.settings import configured


class RateLimitMiddleware:
    """Limits every request. `settings.RATELIMITER` is a dict of the arguments of RateLimiter and Gate, in capitals:
    `{"URL": "http://…", "LIMIT_KEY": "web", "EXEMPT": ["/health"]}`.

    Functions among them get `request.META` with the request in it, as `"django.request"`. After
    AuthenticationMiddleware that has a `user`. The decision is `request.ratelimiter_decision`.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self._get_response = get_response
        self._gate = configured({name.lower(): value for name, value in settings.RATELIMITER.items()})

    def __call__(self, request: HttpRequest) -> HttpResponse:
        environ = {**request.META, "django.request": request}
        decision = self._gate.decide(environ)
        if decision is not None and not decision.allowed:
            status, headers, body = denial(decision, environ)
            response = HttpResponse(body, status=status, content_type="application/problem+json")
        else:
            request.ratelimiter_decision = decision
            headers = [] if decision is None else list(decision.headers)
            response = self._get_response(request)
        for name, value in headers:
            response[name] = value
        return response
