"""The middleware, the decorators and the throttle for Django, beyond what the example shows."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import django
import django.conf
import django.core.exceptions
import django.core.management
import django.http
import django.test
import django.urls
import django.utils.decorators
import django.views
import pytest
from ratelimiter_client import RateLimited, RateLimiter

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


@pytest.fixture(scope="module", autouse=True)
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


def hello(request: Any) -> django.http.HttpResponse:
    decision = request.ratelimiter_decision
    return django.http.HttpResponse("none" if decision is None else str(decision.remaining))


def statuses(path: str, number: int = 1, **options: Any) -> list[int]:
    browser = django.test.Client()
    return [browser.get(path, **options).status_code for _ in range(number)]


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
