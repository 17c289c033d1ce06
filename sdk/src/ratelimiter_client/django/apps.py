"""`"ratelimiter_client.django"` in INSTALLED_APPS: `manage.py check` validates the settings."""

from __future__ import annotations

from typing import Any

from django.apps import AppConfig
from django.core import checks
from django.core.exceptions import ImproperlyConfigured

from ratelimiter_client.arguments import accepts
from ratelimiter_client.django.deciding import gate, handler429


class RateLimiterConfig(AppConfig):
    name = "ratelimiter_client.django"
    label = "ratelimiter_client"

    def ready(self) -> None:
        checks.register(check_settings)
        checks.register(check_handler, checks.Tags.urls)


def check_settings(**_: Any) -> list[checks.CheckMessage]:
    """An error if RATELIMITER would stop the first request."""
    try:
        gate()
    except (TypeError, ValueError, ImproperlyConfigured) as error:
        hint = "RATELIMITER is a dict of the arguments of RateLimiter and RateLimitMiddleware, in capitals."
        return [checks.Error(f"RATELIMITER: {error}", hint=hint, id="ratelimiter_client.E001")]
    return []


def check_handler(**_: Any) -> list[checks.CheckMessage]:
    """An error if handler429 could not answer a denial."""
    try:
        handler = handler429()
    except ImportError as error:
        return [checks.Error(f"handler429 cannot be imported: {error}", id="ratelimiter_client.E002")]
    if handler is None or accepts(handler, None, None):
        return []
    told = f"handler429 is {handler!r}, allowed is a function of the request and the exception"
    return [checks.Error(told, id="ratelimiter_client.E002")]
