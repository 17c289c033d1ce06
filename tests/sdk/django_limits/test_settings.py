"""Django's settings, handlers, system checks and the throttle."""

from __future__ import annotations

import types
from typing import Any

import django.core.management
import django.http
import django.test
import pytest
from ratelimiter_client import RateLimited, RateLimiter

from tests.sdk.django_limits.conftest import NOWHERE, NewClient
from tests.sdk.django_limits.views import hello


@pytest.mark.usefixtures("settings")
def test_handler429_of_the_project_answers(routed: Any, client: RateLimiter, user: str) -> None:
    """U1-5. Also where the client's own decorator denies."""
    from ratelimiter_client.django import limit

    def slow_down(request: Any, error: RateLimited) -> Any:
        return django.http.HttpResponse(error.decision.limit_key or error.decision.reason, status=429)

    own = limit("narrow", cost=3)
    other = client.limit("narrow", identify=user, cost=3)
    sorry = limit("narrow", cost=3, on_denied=lambda request, decision: django.http.HttpResponse(decision.client_id))
    routed(handler429=slow_down, own=own(hello), other=other(hello), sorry=sorry(hello))
    browser = django.test.Client()
    assert browser.get("/own").content == b"narrow"
    assert "r=2" in browser.get("/own").headers["RateLimit"]
    assert browser.get("/other").content == b"cost_exceeds_limit"
    assert browser.get("/sorry").content.decode() == user


def test_the_setting_on_denied_answers(routed: Any, settings: dict[str, Any]) -> None:
    answer = {"ON_DENIED": lambda request, decision: django.http.HttpResponse(request.path, status=420), "COST": 11}
    routed(index=hello)
    with django.test.override_settings(RATELIMITER={**settings, **answer}):
        assert django.test.Client().get("/index").content == b"/index"
    with django.test.override_settings(RATELIMITER={"ENABLED": False}):
        assert django.test.Client().get("/index").content == b"none"


def test_a_check_looks_at_the_handler(routed: Any) -> None:
    for wrong, told in (("nowhere.at_all", "cannot be imported"), (lambda request: None, "allowed is a function")):
        routed(handler429=wrong)
        with pytest.raises(django.core.management.CommandError, match=rf"E002\) handler429 .*{told}"):
            django.core.management.call_command("check")
    routed(handler429="django.views.defaults.page_not_found")
    django.core.management.call_command("check")


def test_a_check_looks_at_the_settings(routed: Any) -> None:
    routed()
    for wrong, told in (
        ({}, "there is no url"),
        (None, "RATELIMITER is missing"),
        ({"URL": NOWHERE, "KEY_FUNC": len}, "'key_func' is no setting, allowed are "),
        ({"URL": NOWHERE, "IDENTIFY": lambda one, two: one}, "identify is .*, allowed is "),
        ({"URL": NOWHERE, "FAIL_MODE": "opne"}, "fail_mode is 'opne'"),
        ({"URL": NOWHERE, "ON_DENIED": "sorry"}, "on_denied is 'sorry'"),
    ):
        with (
            django.test.override_settings(RATELIMITER=wrong),
            pytest.raises(django.core.management.CommandError, match=rf"E001\) RATELIMITER: .*{told}"),
        ):
            django.core.management.call_command("check")
    with django.test.override_settings(RATELIMITER={"URL": NOWHERE}):
        django.core.management.call_command("check")


@pytest.mark.usefixtures("settings")
def test_the_throttle_answers_as_the_rest_framework_asks(
    routed: Any, settings: dict[str, Any], new_client: NewClient
) -> None:
    """By its interface alone: `allow_request`, then `wait`."""
    from ratelimiter_client.django import RateLimitThrottle

    def asked(scope: str | None, pk: Any = None, **more: Any) -> Any:
        user = types.SimpleNamespace(is_authenticated=pk is not None, pk=pk)
        request = types.SimpleNamespace(_request=django.test.RequestFactory().get("/", **more), user=user)
        throttle = RateLimitThrottle()
        return throttle.allow_request(request, types.SimpleNamespace(throttle_scope=scope)), throttle.wait()

    assert asked("narrow") == asked("narrow") == (True, 0)
    allowed, seconds = asked("narrow")
    assert (allowed, 3500 < seconds <= 3600) == (False, True)
    assert asked(None) == (True, 0)
    with django.test.override_settings(RATELIMITER={"CLIENT": settings["CLIENT"]}):
        somebody = new_client()
        assert [asked("narrow", somebody)[0] for _ in range(3)] == [True, True, False]
        assert asked("narrow", REMOTE_ADDR="192.0.2.77")[0]
