"""A Flask application with limits, and users of a node."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import flask
import pytest
from ratelimiter_client import RateLimiter
from ratelimiter_client.flask import RateLimits

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
