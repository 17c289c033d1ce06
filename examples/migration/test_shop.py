"""The shop's own tests, without a service: `pytest examples/migration`."""

from typing import Any

import after
import pytest
from flask.testing import FlaskClient
from ratelimiter_client.testing import FakeLimiter

FORM = {"name": "ann", "password": "guess"}


@pytest.fixture
def rate_limits() -> dict[str, tuple[int, int]]:
    return {
        "index": (3, 60),
        "login-by-address": (7, 60),
        "login-by-name": (3, 60),
        "writes": (6, 60),
        "export": (12, 3600),
        "stats": (2, 60),
        "new-comment": (2, 60),
    }


@pytest.fixture
def browser(fake_limiter: FakeLimiter) -> FlaskClient:
    after.limits.client = fake_limiter
    return after.app.test_client()


def statuses(browser: FlaskClient, number: int, method: str = "get", path: str = "/", **request: Any) -> list[int]:
    return [getattr(browser, method)(path, **request).status_code for _ in range(number)]


def test_a_view_is_limited_by_default(browser: FlaskClient, fake_limiter: FakeLimiter) -> None:
    assert statuses(browser, 4) == [200, 200, 200, 429]
    assert browser.get("/", headers={"X-User": "bob"}).status_code == 200
    fake_limiter.advance(60)
    assert statuses(browser, 1) == [200]


def test_only_failures_of_log_in_count(browser: FlaskClient) -> None:
    right = {"name": "ann", "password": "right"}
    assert statuses(browser, 9, "post", "/login", data=right) == [200] * 9
    assert statuses(browser, 4, "post", "/login", data=FORM) == [401, 401, 401, 429]
    assert statuses(browser, 1, "post", "/login", data={"name": " ANN", "password": "right"}) == [429]
    assert statuses(browser, 5, "post", "/login", data={"name": "bob", "password": "guess"}) == [
        401,
        401,
        401,
        429,
        429,
    ]


def test_writes_share_a_limit(browser: FlaskClient) -> None:
    assert statuses(browser, 5, "post", "/orders") == [201] * 5
    assert statuses(browser, 2, "delete", "/orders/1") == [200, 429]


def test_an_export_costs_its_months(browser: FlaskClient) -> None:
    assert statuses(browser, 1, path="/export?months=13") == [429]
    assert statuses(browser, 3, path="/export?months=5") == [200, 200, 429]
    assert statuses(browser, 1, path="/export?months=-1") == [429]


def test_exceptions(browser: FlaskClient, fake_limiter: FakeLimiter) -> None:
    assert statuses(browser, 4, path="/stats", headers={"X-Internal": "1"}) == [200] * 4
    assert statuses(browser, 3, path="/stats") == [200, 200, 429]
    assert statuses(browser, 3, "post", "/comments") == [200, 200, 429]
    assert statuses(browser, 4, path="/health") == [200] * 4
    asked = len(fake_limiter.calls)
    assert statuses(browser, 4, path="/unknown") == [404] * 4
    assert len(fake_limiter.calls) == asked


def test_the_shop_is_open_while_the_limiter_is_down(browser: FlaskClient, fake_limiter: FakeLimiter) -> None:
    fake_limiter.down()
    assert statuses(browser, 9) == [200] * 9


def test_the_page_of_a_denial(browser: FlaskClient, fake_limiter: FakeLimiter) -> None:
    fake_limiter.deny("index", retry_after_ms=2_500)
    answer = browser.get("/")
    assert (answer.status_code, answer.text, answer.headers["Retry-After"]) == (429, "slow down", "3")
