"""`"ratelimiter_client.django"` in INSTALLED_APPS: `manage.py check` looks at the settings."""

from __future__ import annotations

from typing import Any

from django.apps import AppConfig
from django.core import checks
from django.core.exceptions import ImproperlyConfigured

from ratelimiter_client.django.deciding import gate


class RateLimiterConfig(AppConfig):
    name = "ratelimiter_client.django"
    label = "ratelimiter_client"

    def ready(self) -> None:
        checks.register(check_settings)


def check_settings(**_: Any) -> list[checks.CheckMessage]:
    """An error where RATELIMITER would stop the first request."""
    try:
        gate()
    except (TypeError, ValueError, ImproperlyConfigured) as error:
        hint = "RATELIMITER is a dict of the arguments of RateLimiter and RateLimitMiddleware, in capitals."
        return [checks.Error(f"RATELIMITER: {error}", hint=hint, id="ratelimiter_client.E001")]
    return []
