"""Django's middleware and decorators, beyond what the example shows."""

from __future__ import annotations

from typing import Any

import django.core.exceptions
import django.http
import django.test
import django.utils.decorators
import django.views
import pytest
from ratelimiter_client import RateLimiter

from tests.sdk.django_limits.conftest import NewClient
from tests.sdk.django_limits.views import hello, statuses


@pytest.mark.usefixtures("settings")
def test_the_middleware_counts_requests_that_have_a_view(routed: Any, client: RateLimiter, user: str) -> None:
    from ratelimiter_client.django import exempt

    routed(index=hello, free=exempt(hello))
    answers = [django.test.Client().get("/index") for _ in range(11)]
    assert [answer.status_code for answer in answers] == [200] * 10 + [429]
    assert [answer.content for answer in answers[:2]] == [b"9", b"8"]
    assert "r=9" in answers[0].headers["RateLimit"]
    denied = answers[10]
    assert (denied.json()["status"], int(denied.headers["Retry-After"]) > 3500) == (429, True)
    assert denied.headers["Content-Type"] == "application/problem+json"
    assert statuses("/nope", 2) + statuses("/free", 2) == [404, 404, 200, 200]


@pytest.mark.usefixtures("settings")
def test_a_views_own_limit_stands_in_the_place_of_the_middlewares(routed: Any, client: RateLimiter, user: str) -> None:
    from ratelimiter_client.django import limit

    class Classy(django.views.View):
        def get(self, request: Any) -> Any:
            return hello(request)

        @limit("narrow")
        def post(self, request: Any) -> Any:
            return hello(request)

        @django.utils.decorators.method_decorator(limit("narrow"))
        def put(self, request: Any) -> Any:
            return hello(request)

    whole = django.utils.decorators.method_decorator(limit("narrow"), name="dispatch")(type("Whole", (Classy,), {}))
    both = limit("narrow", override_defaults=False)(hello)
    routed(own=limit("narrow")(hello), both=both, part=Classy.as_view(), whole=whole.as_view())
    assert statuses("/own") + statuses("/both") + statuses("/own") == [200, 200, 429]
    assert client.peek(user).remaining == 9
    assert statuses("/part") + statuses("/whole") == [200, 429]
    browser = django.test.Client()
    assert [browser.post("/part").status_code, browser.put("/part").status_code] == [429, 429]
    with pytest.raises(TypeError, match="of a class by method_decorator"):
        limit("narrow")(Classy)
    assert client.peek(user).remaining == 8


@pytest.mark.usefixtures("settings")
def test_methods_exemptions_and_functions(routed: Any, client: RateLimiter, new_client: NewClient) -> None:
    from ratelimiter_client.django import limit

    view = limit(
        lambda environ: environ["django.request"].GET["key"],
        lambda environ: environ["django.request"].GET["user"],
        cost=lambda environ: int(environ["django.request"].GET["cost"]),
        methods=["GET"],
        exempt_when=lambda environ: "friend" in environ["QUERY_STRING"],
    )
    routed(view=view(hello))
    asked = f"/view?key=narrow&user={new_client()}&cost="
    assert [statuses(asked + cost) for cost in ("-1", "2000000000", "3", "2", "1")] == [
        [429],
        [429],
        [429],
        [200],
        [429],
    ]
    assert statuses(asked + "1&friend") == [200]
    browser = django.test.Client()
    assert [browser.head(asked + "1").status_code, browser.post(asked + "1").status_code] == [429, 200]


@pytest.mark.usefixtures("settings")
def test_only_answers_that_count_are_charged(routed: Any, client: RateLimiter, user: str) -> None:
    from ratelimiter_client.django import limit

    def login(request: Any) -> Any:
        return django.http.HttpResponse(status=200 if "right" in request.GET else 401)

    routed(login=limit("narrow", deduct_when=lambda response: response.status_code == 401)(login))
    assert statuses("/login?right", 5) == [200] * 5
    assert statuses("/login", 3) == [401, 401, 429]


@pytest.mark.usefixtures("settings")
@pytest.mark.parametrize(
    ("error", "status"),
    [
        (django.http.Http404, 404),
        (django.core.exceptions.PermissionDenied, 403),
        (django.core.exceptions.BadRequest, 400),
        (RuntimeError, 500),
    ],
)
@pytest.mark.parametrize("is_async", [False, True])
def test_what_a_view_raises_is_an_answer_too(
    routed: Any, client: RateLimiter, user: str, error: type[Exception], status: int, is_async: bool
) -> None:
    from ratelimiter_client.django import limit

    seen: list[int] = []

    def fail(request: Any) -> Any:
        raise error

    async def async_fail(request: Any) -> Any:
        raise error

    def counts(response: Any) -> bool:
        return bool(seen.append(response.status_code))

    routed(fail=limit("narrow", deduct_when=counts)(async_fail if is_async else fail))
    browser = django.test.Client(raise_request_exception=False)
    assert [browser.get("/fail").status_code for _ in range(3)] == [status] * 3
    assert (seen, client.peek(user, "narrow").remaining) == ([status] * 3, 2)


@pytest.mark.usefixtures("settings")
def test_async_views_and_applications(routed: Any, client: RateLimiter, user: str) -> None:
    from ratelimiter_client.django import limit

    async def view(request: Any) -> Any:
        return hello(request)

    routed(own=limit("narrow")(view), index=view)

    async def ask() -> list[Any]:
        browser = django.test.AsyncClient()
        return [await browser.get(path) for path in ("/own", "/own", "/own", "/index")]

    from asgiref.sync import async_to_sync

    answers = async_to_sync(ask)()
    assert [answer.status_code for answer in answers] == [200, 200, 429, 200]
    assert ["r=1" in answers[0].headers["RateLimit"], "Retry-After" in answers[2].headers] == [True, True]
    assert statuses("/own") == [429]
