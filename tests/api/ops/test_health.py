"""Health, readiness, the breaker: for machines, without a key."""

from __future__ import annotations

import re

import pytest

from app.limiter.fallback.fallback import MEANING
from app.observability.metrics import DEGRADED_LABELS
from app.version import __version__
from tests.support.node import Node


def test_health_says_what_works(node: Node) -> None:
    node.await_rules()
    assert node.eventually(lambda: node.metric("ratelimiter_rules_notified") == 1)
    assert node.eventually(lambda: node.request("GET", "/health").json()["saved_rules_age_seconds"] is not None)
    answer = node.request("GET", "/health", key=None)
    health = answer.json()
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "application/json")
    age, version = health.pop("rules_age_seconds"), health.pop("rules_version")
    assert 0 <= health.pop("saved_rules_age_seconds") < 60
    assert health == {
        "status": "healthy",
        "reasons": [],
        "service": "limiter",
        "version": __version__,
        "redis_available": True,
        "fail_mode": "open",
        "without_redis": MEANING["open"],
        "database_available": True,
        "rules_notified": True,
    }
    assert type(version) is int
    assert version >= 1
    assert isinstance(age, float)
    assert 0 <= age < 60


def test_every_reason_is_a_series_before_it_comes_true(node: Node) -> None:
    text = node.request("GET", "/metrics", key=None).text
    series = re.findall(r'^ratelimiter_degraded_reasons\{reason="(\w+)"\} ([\d.]+)$', text, re.MULTILINE)
    assert dict(series) == dict.fromkeys(DEGRADED_LABELS, "0.0")


def test_the_version_of_the_rules_grows_with_a_change(node: Node, client: str) -> None:
    before = node.request("GET", "/health", key=None).json()["rules_version"]
    node.put_rule(client_id=client, rate=1, window=1)
    assert node.request("GET", "/health", key=None).json()["rules_version"] > before


def test_the_breaker_shows_itself_closed(node: Node) -> None:
    answer = node.request("GET", "/circuit-breaker-status", key=None)
    assert answer.json() == {"state": "closed", "failure_count": 0, "time_until_retry_seconds": 0}


@pytest.mark.parametrize("path", ["/livez", "/readyz"])
def test_the_node_lives_and_is_ready(node: Node, path: str) -> None:
    assert node.request("GET", path, key=None).status_code == 200


@pytest.mark.parametrize("path", ["/health", "/livez", "/readyz", "/circuit-breaker-status", "/metrics"])
def test_they_answer_head_and_refuse_to_be_posted_to(node: Node, path: str) -> None:
    head = node.request("HEAD", path, key=None)
    assert (head.status_code, head.content) == (200, b"")
    assert node.request("POST", path, key=None).status_code == 405
