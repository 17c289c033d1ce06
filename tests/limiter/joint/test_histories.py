"""Histories over three layers, with edits of rules: one server decides as the exact model."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, given, settings

from app.limiter.redis.store import RedisStore
from tests.support.examples import examples
from tests.support.histories import FLOODS, HISTORIES, LIMITS, follow

FEW = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]


@settings(max_examples=examples(150), deadline=None, suppress_health_check=FEW)
@given(limits=LIMITS, events=HISTORIES)
def test_every_answer_is_that_of_the_model(store: RedisStore, limits: Any, events: list[Any]) -> None:
    follow(store, limits, events, remembers=False)


@settings(max_examples=examples(150), deadline=None, suppress_health_check=FEW)
@given(limits=LIMITS, events=FLOODS)
def test_no_denial_is_repeated_that_redis_would_not_give(store: RedisStore, limits: Any, events: list[Any]) -> None:
    """Other groups, other costs, peeks, request ids and edited rules included."""
    follow(store, limits, events, remembers=True)
