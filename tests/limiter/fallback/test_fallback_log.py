"""One line when a fail_mode takes over, one when Redis has it back."""

from __future__ import annotations

import pytest

from app.limiter.fallback.fallback_log import CALM_SECONDS, FallbackLog


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level("INFO", "app.limiter.fallback.fallback_log")
    return caplog


def test_a_line_per_change_and_none_per_check(lines: pytest.LogCaptureFixture) -> None:
    now = [1000.0]
    modes = FallbackLog(lambda: now[0])
    modes.redis_decided()
    for _ in range(100):
        modes.fell_back("open", "timed out")
    modes.fell_back("closed", "circuit open")
    now[0] += CALM_SECONDS
    for _ in range(100):
        modes.redis_decided()
    modes.fell_back("open", "timed out again")
    assert lines.messages == [
        "Redis does not decide all checks; instead fail_mode open decides: timed out",
        "Redis does not decide all checks; instead fail_mode closed decides: circuit open",
        "Redis decides all checks again",
        "Redis does not decide all checks; instead fail_mode open decides: timed out again",
    ]


def test_refused_leases_are_one_line_however_many(lines: pytest.LogCaptureFixture) -> None:
    now = [1000.0]
    modes = FallbackLog(lambda: now[0])
    for _ in range(100):
        modes.refused_lease("refused")
    now[0] += CALM_SECONDS
    modes.redis_decided()
    modes.refused_lease("refused again")
    assert lines.messages == [
        "Redis cannot grant leases, so they are refused: refused",
        "Redis decides all checks again",
        "Redis cannot grant leases, so they are refused: refused again",
    ]


def test_a_fault_that_comes_and_goes_is_one(lines: pytest.LogCaptureFixture) -> None:
    now = [1000.0]
    modes = FallbackLog(lambda: now[0])
    for _ in range(100):
        modes.fell_back("local", "lost")
        now[0] += CALM_SECONDS / 2
        modes.redis_decided()
    assert len(lines.messages) == 1
