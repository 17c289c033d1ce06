"""Decisions on requests of Django, and the answers to denied requests."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Iterable

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed
from django.http import HttpRequest, HttpResponse
from django.urls import get_resolver, get_urlconf
from django.utils.module_loading import import_string

from ratelimiter_client.arguments import function
from ratelimiter_client.decision import Decision
from ratelimiter_client.errors import RateLimited
from ratelimiter_client.web.charges import Charges
from ratelimiter_client.web.denials import CORRELATION_ID, PROBLEM, correlation_id, denial, denial_headers
from ratelimiter_client.web.gate import DECISION, Gate, Limit
from ratelimiter_client.web.settings import configured

OWN = ("on_denied",)


def options() -> dict[str, Any]:
    """RATELIMITER, with names in lower case. Raises ImproperlyConfigured if it is no dict."""
    given = getattr(settings, "RATELIMITER", None)
    if not isinstance(given, dict):
        raise ImproperlyConfigured("RATELIMITER is missing: a dict, as {'URL': 'http://127.0.0.1:8000'}")
    return {str(name).lower(): value for name, value in given.items()}


@lru_cache(maxsize=1)
def gate() -> Gate:
    """The gate of the settings; made again when a test overrides them. Raises TypeError, ValueError,
    ImproperlyConfigured.
    """
    given = options()
    function("on_denied", given.get("on_denied"), "a function of the request and the decision", None, None)
    return configured(given, OWN)


def _forget(*, setting: str, **_: Any) -> None:
    if setting == "RATELIMITER":
        gate.cache_clear()


setting_changed.connect(_forget)


def decide(request: HttpRequest, limits: Iterable[Limit] | None = None) -> Decision | None:
    """As Gate.decide, with the request in the environ. `request.ratelimiter_decision` is the tightest decision so
    far.
    """
    Charges.of(request.META)
    request.META[CORRELATION_ID] = correlation_id(request.META)
    environ = {**request.META, "django.request": request}
    before = getattr(request, "ratelimiter_decision", None)
    if before is None:
        environ.pop(DECISION, None)
    else:
        environ[DECISION] = before
    decision = gate().decide(environ, limits)
    note(request, environ.get(DECISION))
    return decision


def denied(request: HttpRequest, decision: Decision, on_denied: Any = None) -> HttpResponse:
    """The answer of `on_denied` or the setting ON_DENIED, of the root URLconf's handler429, or a problem document."""
    note(request, decision)
    by_function = on_denied or options().get("on_denied")
    response = None if by_function is None else by_function(request, decision)
    if response is None:
        status, _, body = denial(decision, request.META)
        urlconf = getattr(request, "urlconf", None) or get_urlconf()
        handler = handler429(urlconf) if status == 429 else None
        if handler is None:
            response = HttpResponse(body, status=status, content_type=PROBLEM)
        else:
            response = handler(request, RateLimited(decision))
    return with_headers(request, response)


def note(request: Any, decision: Decision | None) -> None:
    """Put the decision where the application finds it."""
    request.ratelimiter_decision = decision


def with_headers(request: HttpRequest, response: HttpResponse) -> HttpResponse:
    """The response with the headers of the decision on the request."""
    decision = getattr(request, "ratelimiter_decision", None)
    if decision is not None:
        for name, value in decision.headers if decision.allowed else denial_headers(decision, request.META):
            response[name] = value
    return response


def handler429(urlconf: Any = None) -> Any:
    """As Django's handler404: a function of the request and the exception, or its dotted path. Raises ImportError."""
    handler = getattr(get_resolver(urlconf).urlconf_module, "handler429", None)
    return import_string(handler) if isinstance(handler, str) else handler
