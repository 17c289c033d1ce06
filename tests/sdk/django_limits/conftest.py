"""A Django project with the middleware, and users of a node."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import django
import django.conf
import django.test
import django.urls
import pytest
from ratelimiter_client import RateLimiter

from tests.support.node import Node

NewClient = Callable[[], str]
URLS = "tests_sdk_urls"
NOWHERE = "http://127.0.0.1:1"


@pytest.fixture(scope="module")
def client(node: Node) -> Iterator[RateLimiter]:
    with RateLimiter(node.url, timeout=10) as client:
        yield client


@pytest.fixture(scope="module")
def new_client(node: Node) -> NewClient:
    """Makes ids that may do two things an hour with `narrow`, ten with all other keys together."""
    prefix = f"django-{uuid4().hex[:8]}-"
    for rule in ({"rate": 2, "endpoint": "narrow"}, {"rate": 10}):
        node.put_rule(client_id=f"{prefix}*", window=3600, algorithm="fixed_window", **rule)
    return lambda: prefix + uuid4().hex[:8]


@pytest.fixture(scope="session", autouse=True)
def project() -> types.ModuleType:
    """The root URLconf of a project, whose settings are made once in a process."""
    django.conf.settings.configure(
        ALLOWED_HOSTS=["testserver"],
        ROOT_URLCONF=URLS,
        INSTALLED_APPS=["ratelimiter_client.django"],
        MIDDLEWARE=["ratelimiter_client.django.RateLimitMiddleware"],
        RATELIMITER={"URL": NOWHERE},
    )
    django.setup()
    sys.modules[URLS] = types.ModuleType(URLS)
    return sys.modules[URLS]


@pytest.fixture
def user(new_client: NewClient) -> str:
    return new_client()


@pytest.fixture
def settings(client: RateLimiter, user: str) -> Iterator[dict[str, Any]]:
    """RATELIMITER, as it counts the test's user."""
    given = {"CLIENT": client, "IDENTIFY": lambda environ: environ["django.request"].headers.get("X-User", user)}
    with django.test.override_settings(RATELIMITER=given):
        yield given


@pytest.fixture
def routed(project: types.ModuleType) -> Callable[..., None]:
    """Makes views of these names those of the project."""

    def route(handler429: Any = None, **views: Any) -> None:
        project.urlpatterns = [django.urls.path(name, view) for name, view in views.items()]  # type: ignore[attr-defined]
        project.handler429 = handler429  # type: ignore[attr-defined]
        django.urls.clear_url_caches()

    return route
