"""Fixtures for pytest, which finds them by itself where this package is installed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from ratelimiter_client.testing import FakeLimiter
    from ratelimiter_client.testing.service import Limit


@pytest.fixture
def rate_limits() -> dict[str, Limit]:
    """The limits of `fake_limiter`. A test overrides this fixture to set them, as `{"login": (5, 60)}`."""
    return {}


@pytest.fixture
def fake_limiter(rate_limits: dict[str, Limit]) -> FakeLimiter:
    """A FakeLimiter with `rate_limits`, a new one for each test."""
    from ratelimiter_client.testing import FakeLimiter  # imported only for tests that use it

    return FakeLimiter(rate_limits)
