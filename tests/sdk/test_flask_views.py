"""Limits of Flask's views and blueprints, as applications that come from flask-limiter have them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any
from uuid import uuid4

import flask
import pytest
from flask.views import MethodView, View
from ratelimiter_client import Decision, RateLimiter
from ratelimiter_client.flask import RateLimitExceeded, RateLimits, RateLimitUndecided

from tests.support.node import ROOT, Node

Use = Callable[..., list[int]]


@pytest.fixture(scope="module")
def users(node: Node) -> Callable[[], str]:
    """Makes ids that may do two things an hour with `narrow`, five with `login`, ten with all other keys together."""
    prefix = f"views-{uuid4().hex[:8]}-"
    for endpoint, rate in (("narrow", 2), ("login", 5), (None, 10)):
        rule = {"endpoint": endpoint} if endpoint else {}
        node.put_rule(client_id=f"{prefix}*", rate=rate, window=3600, algorithm="fixed_window", **rule)
    return lambda: prefix + uuid4().hex[:8]


@pytest.fixture(scope="module")
def client(node: Node) -> Iterator[RateLimiter]:
    with RateLimiter(node.url, timeout=10) as client:
        yield client


@pytest.fixture
def user(users: Callable[[], str]) -> str:
    return users()


@pytest.fixture
def app() -> flask.Flask:
    return flask.Flask(__name__, static_folder=ROOT / "tests/support", static_url_path="/static")


@pytest.fixture
def limits(app: flask.Flask, client: RateLimiter, user: str) -> RateLimits:
    return RateLimits(app, client=client, identify=user)


@pytest.fixture
def use(app: flask.Flask) -> Use:
    """Statuses of so many requests."""

    def request(path: str, number: int = 1, method: str = "GET", **options: Any) -> list[int]:
        found = []
        for _ in range(number):
            with app.test_client().open(path, method=method, **options) as answer:
                found.append(answer.status_code)
        return found

    return request


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


def test_a_denial_is_told_with_the_headers_of_its_limit(app: flask.Flask, client: RateLimiter, user: str) -> None:
    """U1-5: on_breach and error_message too."""
    breached: list[Decision] = []
    limits = RateLimits(app, client=client, identify=user, on_breach=breached.append)
    view = limits.limit("narrow", override_defaults=False, error_message="slowly, please")
    app.add_url_rule("/", "index", view(lambda: str(len(limits.current_limits))))
    plain = [app.test_client().get("/") for _ in range(3)]
    assert [answer.text for answer in plain[:2]] == ["2", "2"]
    assert plain[2].json["detail"] == "slowly, please"
    assert "r=0" in plain[2].headers["RateLimit"]
    assert plain[2].headers["Retry-After"]
    assert [(decision.limit_key, decision.breached) for decision in breached] == [("narrow", True)]


def test_the_handler_of_429_knows_which_limit_denied(app: flask.Flask, limits: RateLimits, user: str) -> None:
    view = limits.limit("narrow", cost=3, override_defaults=False, error_message=lambda: "slowly, please")
    app.add_url_rule("/", "index", view(lambda: "hello"))

    @app.errorhandler(429)
    def slow_down(error: RateLimitExceeded) -> tuple[dict[str, Any], int]:
        current = limits.current_limit
        assert current is error.decision
        return {"key": error.decision.limit_key, "who": current.client_id, "why": error.description}, 429

    answer = app.test_client().get("/")
    assert answer.json == {"key": "narrow", "who": user, "why": "slowly, please"}
    assert "Retry-After" not in answer.headers  # waiting does not help: it costs more than the limit
    assert limits.current_limit is None
    assert limits.current_limits == []


def test_on_breach_may_answer(app: flask.Flask, limits: RateLimits) -> None:
    view = limits.limit("narrow", cost=3, on_breach=lambda decision: (f"limit {decision.limit}", 418))
    app.add_url_rule("/", "index", view(lambda: "hello"))
    answer = app.test_client().get("/")
    assert (answer.status_code, answer.text) == (418, "limit 2")
    assert "r=2" in answer.headers["RateLimit"]


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


def test_a_denial_by_the_clients_own_decorator_is_a_429(
    app: flask.Flask, limits: RateLimits, client: RateLimiter, user: str
) -> None:
    app.add_url_rule("/", "index", client.limit("narrow", identify=user, cost=3)(lambda: "hello"))
    answer = app.test_client().get("/")
    assert (answer.status_code, answer.json["status"]) == (429, 429)
    assert "r=2" in answer.headers["RateLimit"]


def test_what_is_not_decided_is_a_503_of_its_own_kind(app: flask.Flask) -> None:
    RateLimits(app, url="http://127.0.0.1:1", fail_mode="closed")
    app.add_url_rule("/", "index", lambda: "hello")
    seen: list[RateLimitUndecided] = []
    app.register_error_handler(503, lambda error: (seen.append(error), ("later", 503))[1])
    assert app.test_client().get("/").text == "later"
    assert "refused" in str(seen[0].decision.error)


def test_it_is_switched_off_and_its_client_replaced(app: flask.Flask, client: RateLimiter, user: str, use: Use) -> None:
    """U1-6."""
    app.config["RATELIMITER_ENABLED"] = False
    limits = RateLimits(app, identify=user, limit_key="narrow")
    app.add_url_rule("/", "index", limits.limit("narrow")(lambda: "hello"))
    assert use("/", 3) == [200] * 3
    limits.client = client
    assert limits.client is client
    assert use("/", 3) == [200] * 3
    limits.enabled = True
    assert use("/", 3) == [200, 200, 429]
    limits.enabled = False
    assert (use("/"), limits.enabled) == ([200], False)


def test_the_command_tells_of_a_service_that_is_not_there(app: flask.Flask) -> None:
    RateLimits(app, url="http://127.0.0.1:1", fail_mode="raise")
    app.add_url_rule("/", "index", lambda: "")
    printed = app.test_cli_runner().invoke(args=["limits", "list"])
    assert (printed.exit_code, printed.exception) == (0, None)
    assert "not known: ConnectionRefusedError" in printed.output


def test_a_limit_above_the_route_is_told_once(
    app: flask.Flask, limits: RateLimits, use: Use, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("WARNING", "ratelimiter_client")
    part = flask.Blueprint("part", __name__)
    limits.limit("narrow")(app.get("/")(lambda: "whole"))
    limits.limit("narrow")(part.get("/part", endpoint="part")(lambda: "part"))
    app.get("/below", endpoint="below")(limits.limit("narrow")(lambda: "below"))
    app.register_blueprint(part)
    assert use("/", 2) + use("/part", 2) + use("/below", 2) == [200] * 6
    told = [record.getMessage() for record in caplog.records if "below the route" in record.getMessage()]
    assert [("'<lambda>'" in line, "'part.part'" in line) for line in told] == [(True, False), (False, True)]


def test_the_command_lists_views_and_their_rules(app: flask.Flask, node: Node, client: RateLimiter) -> None:
    key = f"listed-{uuid4().hex[:8]}"
    node.put_rule(client_id="*", endpoint=key, rate=7, window=60, algorithm="fixed_window")
    limits = RateLimits(app, client=client)
    app.add_url_rule("/a", "a", limits.limit(key)(lambda: ""), methods=["GET", "POST"])
    app.add_url_rule(
        "/b",
        "b",
        limits.limit("serach", override_defaults=False, methods=["POST"])(lambda: ""),
        methods=["GET", "POST"],
    )
    app.add_url_rule("/c", "c", limits.limit(lambda: "x")(limits.exempt(lambda: "")))
    printed = app.test_cli_runner().invoke(args=["limits", "list"])
    assert printed.exit_code == 0, printed.output
    lines = [line.split() for line in printed.output.splitlines()]
    assert lines[0] == ["VIEW", "METHODS", "PATH", "LIMIT", "RULE"]
    assert [line[:4] for line in lines[1:]] == [
        ["a", "GET,POST", "/a", key],
        ["b", "GET", "/b", "global"],
        ["b", "POST", "/b", "global"],
        ["b", "POST", "/b", "serach"],
        ["c", "GET", "/c", "(by"],
        ["static", "GET", "/static/<path:filename>", "-"],
    ]
    assert lines[1][5:] == ["7", "in", "60", "s,", "fixed_window"]
    assert "no rule names it" in printed.output.splitlines()[4]
