"""Limits of Flask's views and blueprints, as applications that come from flask-limiter have them."""

from __future__ import annotations

from contextlib import nullcontext

import flask
import pytest
from flask.views import MethodView, View
from ratelimiter_client import RateLimiter
from ratelimiter_client.flask import RateLimits

from tests.sdk.flask_limits.conftest import Use
from tests.support.node import ROOT


def left(client: RateLimiter, user: str, limit_key: str = "global") -> int:
    return client.peek(user, limit_key).remaining


def test_a_views_own_limit_stands_in_the_place_of_the_applications(
    app: flask.Flask, limits: RateLimits, use: Use, client: RateLimiter, user: str
) -> None:
    """U1-2: of the counter of any key, one unit a request."""
    app.add_url_rule("/search", "search", limits.limit("search")(lambda: "found"))
    app.add_url_rule("/narrow", "narrow", limits.limit("narrow")(lambda: "found"))
    app.add_url_rule("/both", "both", limits.limit("narrow", override_defaults=False)(lambda: "found"))
    assert use("/search", 3) == [200] * 3
    assert left(client, user) == 7
    assert use("/narrow") + use("/both") + use("/narrow") == [200, 200, 429]
    assert (left(client, user), left(client, user, "narrow")) == (6, 0)


def test_two_of_a_view_are_both_asked_and_one_counter_is_charged_once(
    app: flask.Flask, limits: RateLimits, use: Use, client: RateLimiter, user: str
) -> None:
    stacked = limits.limit("narrow")(limits.limit("a")(limits.limit("b", cost=3)(lambda: "found")))
    app.add_url_rule("/", "index", stacked)
    assert use("/", 3) == [200, 200, 429]
    assert (left(client, user), left(client, user, "narrow")) == (4, 0)


def test_methods_and_head_is_a_get(
    app: flask.Flask, limits: RateLimits, use: Use, client: RateLimiter, user: str
) -> None:
    view = limits.limit("narrow", methods=["get"])(lambda: "found")
    app.add_url_rule("/", "index", view, methods=["GET", "POST"])
    assert use("/", 2, "HEAD") + use("/") == [200, 200, 429]
    assert left(client, user) == 10
    assert use("/", 1, "POST") == [200]
    assert left(client, user) == 9  # by the application's


def test_an_endpoint_may_look_like_a_blueprints(
    app: flask.Flask, limits: RateLimits, use: Use, client: RateLimiter, user: str
) -> None:
    for name in ("part.view", "part.static"):
        app.add_url_rule(f"/{name}", name, lambda: "found")
    assert use("/part.view") + use("/part.static") == [200, 200]
    assert left(client, user) == 8
    assert app.test_cli_runner().invoke(args=["limits", "list"]).exit_code == 0


def test_what_runs_no_view_is_not_counted(
    app: flask.Flask, limits: RateLimits, use: Use, client: RateLimiter, user: str
) -> None:
    """U1-10: static files, unknown paths and methods, and preflights that Flask answers."""
    app.add_url_rule("/", "index", lambda: "hello")
    blueprint = flask.Blueprint("part", __name__, static_folder=ROOT / "tests/support", static_url_path="/part/files")
    app.register_blueprint(blueprint)
    asked = use("/static/node.py") + use("/part/files/node.py") + use("/nope") + use("/", 1, "DELETE")
    assert asked + use("/", 1, "OPTIONS") == [200, 200, 404, 405, 200]
    assert left(client, user) == 10
    assert use("/") == [200]
    assert left(client, user) == 9


def test_everything_is_counted_where_that_is_wanted(app: flask.Flask, client: RateLimiter, user: str, use: Use) -> None:
    RateLimits(app, client=client, identify=user, all_requests=True)
    assert use("/static/node.py") + use("/nope") == [200, 404]
    assert left(client, user) == 8


def test_exempt_views_and_blueprints(
    app: flask.Flask, limits: RateLimits, use: Use, client: RateLimiter, user: str
) -> None:
    app.add_url_rule("/free", "free", limits.exempt(lambda: "free"))
    app.add_url_rule("/own", "own", limits.exempt(limits.limit("narrow")(lambda: "own")))
    with pytest.raises(TypeError, match=r"^what is exempt is .*, allowed is a view"):
        limits.exempt(MethodView)
    blueprint = limits.exempt(flask.Blueprint("part", __name__))
    blueprint.add_url_rule("/part", "part", lambda: "part")
    app.register_blueprint(blueprint)
    assert use("/free", 3) + use("/part", 3) == [200] * 6
    assert left(client, user) == 10
    assert use("/own", 3) == [200, 200, 429]


def test_exempt_when_and_filters(app: flask.Flask, limits: RateLimits, use: Use) -> None:
    friend = limits.limit("narrow", exempt_when=lambda: "friend" in flask.request.args)
    app.add_url_rule("/", "index", friend(lambda: "hello"))

    @limits.request_filter
    def is_probe() -> bool:
        return "probe" in flask.request.args

    assert use("/?friend", 3) + use("/?probe", 3) + use("/", 3) == [200] * 8 + [429]


def test_limits_of_blueprints(app: flask.Flask, limits: RateLimits, use: Use, client: RateLimiter, user: str) -> None:
    inner, outer = flask.Blueprint("inner", __name__), flask.Blueprint("outer", __name__)
    for blueprint, path in ((inner, "/inner"), (outer, "/outer")):
        blueprint.add_url_rule(path, "index", lambda: "hello")
    inner.add_url_rule("/own", "own", limits.limit("login")(lambda: "own"))
    assert limits.limit("narrow")(outer) is outer
    outer.register_blueprint(inner)
    app.register_blueprint(outer)
    assert use("/outer") + use("/inner") + use("/outer") == [200, 200, 429]
    assert use("/own", 6) == [200] * 5 + [429]
    assert left(client, user) == 10
    limits.limit("other", override_defaults=False)(inner)
    assert use("/inner") == [429]  # that of the outer one holds as well, and comes first


def test_class_based_views(app: flask.Flask, limits: RateLimits, use: Use, client: RateLimiter, user: str) -> None:
    class Whole(View):
        decorators = (limits.limit("narrow"),)

        def dispatch_request(self) -> str:
            return "whole"

    class Part(MethodView):
        def get(self) -> str:
            return "get"

        @limits.limit("login")
        def post(self) -> str:
            return "post"

    app.add_url_rule("/whole", view_func=Whole.as_view("whole"))
    app.add_url_rule("/part", view_func=Part.as_view("part"))
    assert use("/whole", 3) == [200, 200, 429]
    assert use("/part", 6, "POST") == [200] * 5 + [429]
    assert left(client, user) == 10
    assert use("/part") == [200]
    assert left(client, user) == 9


def test_async_views(app: flask.Flask, limits: RateLimits, use: Use) -> None:
    """U1-7."""

    @app.get("/")
    @limits.limit("narrow")
    async def index() -> str:
        return flask.request.path

    class Part(MethodView):
        @limits.limit("narrow")
        async def get(self) -> str:
            return "get"

    app.add_url_rule("/part", view_func=Part.as_view("part"))
    assert app.test_client().get("/").text == "/"
    assert use("/part") + use("/", 1) == [200, 429]


def test_functions_of_the_request(
    app: flask.Flask, limits: RateLimits, use: Use, client: RateLimiter, user: str
) -> None:
    """Keys, ids and costs, each of the environ or, as from flask-limiter, of nothing. U1-3, U1-4."""
    view = limits.limit(
        lambda: flask.request.args["key"],
        key_func=lambda: flask.request.args["user"],
        cost=lambda environ: int(flask.request.args["months"]),
    )
    app.add_url_rule("/", "index", view(lambda: "done"))
    for months, status in ((3, 200), (3, 429), (-1, 429), (2_000_000_000, 429), (1, 200), (0, 200)):
        assert use(f"/?key=login&user={user}&months={months}") == [status], months
    assert (left(client, user, "login"), left(client, user)) == (1, 10)
    assert use(f"/?key=narrow&user={user}&months=2") == [200]
    app.testing = True
    with pytest.raises(ValueError, match="invalid literal"):
        use(f"/?key=narrow&user={user}&months=none")


@pytest.mark.parametrize("name", ["identify", "key_func"])
def test_functions_are_looked_at_when_something_is_made(name: str, user: str) -> None:
    """U1-3."""

    def of_two(one: str, two: str) -> str:
        return one + two

    async def later() -> str:
        return "a"

    async def asked_later(*_: object) -> bool:
        return False

    for wrong in (of_two, later):
        with pytest.raises(TypeError, match=f"^{name} is .*allowed is"):
            RateLimits(flask.Flask(__name__), url="http://127.0.0.1:1", **{name: wrong})
        with pytest.raises(TypeError, match="allowed is"):
            RateLimits().limit("a", **{name: wrong})
    for option in ("exempt_when", "deduct_when", "on_breach", "error_message"):
        for wrong in (of_two, asked_later):
            with pytest.raises(TypeError, match=f"^{option} is .*, allowed is"):
                RateLimits().limit("a", **{option: wrong})
    for wrong in (of_two, asked_later, None):
        with pytest.raises(TypeError, match=r"^request_filter is .*, allowed is"):
            RateLimits().request_filter(wrong)
    for methods in ([], [5], "", 5, [""]):
        with pytest.raises(TypeError):
            RateLimits().limit("a", methods=methods)
    with pytest.raises(TypeError, match="identify"):
        RateLimits(flask.Flask(__name__), url="http://127.0.0.1:1", key_func=lambda: user, identify=user)


def test_only_answers_that_count_are_charged(
    app: flask.Flask, limits: RateLimits, use: Use, client: RateLimiter, user: str
) -> None:
    """The log-in of which only failures count."""

    @app.post("/login")
    @limits.limit("login", deduct_when=lambda response: response.status_code == 401)
    def login() -> tuple[str, int]:
        return "", 200 if flask.request.form["password"] == "right" else 401

    assert use("/login", 8, "POST", data={"password": "right"}) == [200] * 8
    assert left(client, user, "login") == 5
    assert use("/login", 6, "POST", data={"password": "wrong"}) == [401] * 5 + [429]
    assert use("/login", 1, "POST", data={"password": "right"}) == [429]


@pytest.mark.parametrize("testing", [False, True])
def test_a_view_that_fails_is_a_500_also_where_the_server_makes_it(
    app: flask.Flask, limits: RateLimits, client: RateLimiter, user: str, testing: bool
) -> None:
    app.testing = testing
    seen: list[int] = []
    view = limits.limit("narrow", deduct_when=lambda response: bool(seen.append(response.status_code)))
    app.add_url_rule("/", "index", view(lambda: 1 / 0))
    with pytest.raises(ZeroDivisionError) if testing else nullcontext():
        app.test_client().get("/")
    assert (seen, client.peek(user, "narrow").remaining) == ([500], 2)


def test_checks_within_a_view(app: flask.Flask, limits: RateLimits, use: Use, client: RateLimiter, user: str) -> None:
    """U1-4: each call charges; a denial is answered as any other."""

    @app.get("/")
    def index() -> str:
        with limits.limit("login"):
            for _ in range(int(flask.request.args["times"])):
                decision = limits.check("narrow")
        return str(decision.remaining)

    assert app.test_client().get("/?times=2").text == "0"
    answer = app.test_client().get("/?times=1")
    assert (answer.status_code, answer.json["status"]) == (429, 429)
    assert "r=0" in answer.headers["RateLimit"]
    assert left(client, user, "login") == 3


def test_a_function_that_is_called_twice_is_charged_twice(
    app: flask.Flask, limits: RateLimits, use: Use, client: RateLimiter, user: str
) -> None:
    send = limits.limit("mail")(lambda to: to)
    app.add_url_rule("/", "index", lambda: send("a") + send("b") + send("c"))
    assert use("/") == [200]
    assert left(client, user) == 7
