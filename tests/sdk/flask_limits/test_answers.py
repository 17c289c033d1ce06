"""What Flask's extension answers and shows: denials, failures, and the command."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import flask
import pytest
from ratelimiter_client import Decision, RateLimiter
from ratelimiter_client.flask import RateLimitExceeded, RateLimits, RateLimitUndecided

from tests.sdk.flask_limits.conftest import Use
from tests.support.node import Node


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
