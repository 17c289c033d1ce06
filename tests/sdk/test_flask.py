"""The extension for Flask, beyond what the example shows: sessions, error handlers, wrong settings."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import flask
import pytest
from ratelimiter_client import RateLimiter
from ratelimiter_client.flask import RateLimits

from tests.support.node import Node

NewClient = Callable[[], str]


@pytest.fixture(scope="module")
def new_client(node: Node) -> NewClient:
    """Makes ids that may do two things an hour."""
    prefix = f"framework-{uuid4().hex[:8]}-"
    node.put_rule(client_id=f"{prefix}*", rate=2, window=3600, algorithm="fixed_window")
    return lambda: prefix + uuid4().hex[:8]


@pytest.fixture
def client(node: Node) -> Iterator[RateLimiter]:
    with RateLimiter(node.url, timeout=10) as client:
        yield client


@pytest.fixture
def app() -> flask.Flask:
    app = flask.Flask(__name__)
    app.secret_key = "of the test"
    app.add_url_rule("/", "index", lambda: "hello")
    return app


def statuses(app: flask.Flask, path: str, number: int, **request: Any) -> list[int]:
    return [app.test_client().get(path, **request).status_code for _ in range(number)]


def test_flask_counts_by_its_session(app: flask.Flask, client: RateLimiter, new_client: NewClient) -> None:
    RateLimits(app, client=client, identify=lambda environ: flask.session["user"], limit_key="web")
    with app.test_client() as browser:
        with browser.session_transaction() as session:
            session["user"] = new_client()
        answers = [browser.get("/") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert ["RateLimit" in answer.headers for answer in answers] == [True] * 3
    assert answers[2].headers["Retry-After"]
    assert answers[2].json["detail"].startswith("ask again in ")


def test_flask_asks_the_applications_own_handler(app: flask.Flask, client: RateLimiter, new_client: NewClient) -> None:
    RateLimits(app, client=client, identify=new_client())
    app.register_error_handler(429, lambda error: ("slow down", 429))
    answers = [app.test_client().get("/") for _ in range(3)]
    assert [answer.text for answer in answers] == ["hello", "hello", "slow down"]
    assert answers[2].headers["Retry-After"]


def test_flask_limits_only_decorated_views_where_asked_to(
    app: flask.Flask, client: RateLimiter, new_client: NewClient
) -> None:
    limits = RateLimits(client=client, identify=new_client(), limits=())
    app.add_url_rule("/limited", "limited", limits.limit("view")(lambda: "limited"))
    other = limits.limit("view", identify=new_client())(lambda: "other")
    app.add_url_rule("/other", "other", other)
    limits.init_app(app)
    assert statuses(app, "/", 3) == [200] * 3
    assert statuses(app, "/limited", 3) == [200, 200, 429]
    assert statuses(app, "/other", 3) == [200, 200, 429]


def test_one_extension_serves_several_applications_of_flask(client: RateLimiter, new_client: NewClient) -> None:
    limits = RateLimits(client=client, limits=())
    apps = [flask.Flask(f"{__name__}.{number}") for number in range(2)]
    for app in apps:
        app.config["RATELIMITER_IDENTIFY"] = new_client()
        limits.init_app(app)
        app.add_url_rule("/", "index", limits.limit()(lambda: "hello"))
    assert [statuses(app, "/", 3) for app in apps] == [[200, 200, 429]] * 2


def test_flask_says_503_where_nothing_is_known_and_the_fail_mode_is_closed(app: flask.Flask) -> None:
    app.config.update(RATELIMITER_URL="http://127.0.0.1:1", RATELIMITER_FAIL_MODE="closed")
    RateLimits(app)
    answer = app.test_client().get("/")
    assert (answer.status_code, answer.headers["Retry-After"], answer.json["status"]) == (503, "1", 503)


def test_wrong_settings_stop_the_start(app: flask.Flask) -> None:
    app.config["RATELIMITER_URL"] = "http://127.0.0.1:1"
    app.config["RATELIMITER_TIMEOUTS"] = 1
    with pytest.raises(TypeError, match=r"timeouts.* allowed are .*limit_key.* timeout"):
        RateLimits(app)
    del app.config["RATELIMITER_TIMEOUTS"]
    with pytest.raises(ValueError, match="fail_mode"):
        RateLimits(app, fail_mode="local")
    with app.test_request_context(), pytest.raises(RuntimeError, match="init_app"):
        RateLimits().limit()(lambda: None)()
    for nothing in ({}, {"RATELIMITER_URL": None}):
        other = flask.Flask(__name__)
        other.config.update(nothing)
        with pytest.raises(ValueError, match="set RATELIMITER_URL"):
            RateLimits(other)


def test_decorators_that_mean_something_else_stop_the_start() -> None:
    limits = RateLimits()
    with pytest.raises(TypeError, match="allowed is a limit's name"):

        @limits.limit
        def view() -> str:
            return "hello"

    with pytest.raises(ValueError, match=r"5/minute.*allowed is a limit's name"):
        limits.limit("5/minute")
