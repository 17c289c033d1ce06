"""Work without end survives its failures, and they are seen."""

from __future__ import annotations

import gevent
import pytest
from prometheus_client import REGISTRY

from app.observability import background
from app.observability.background import forever


def test_a_failure_is_logged_and_counted_and_work_goes_on(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(background, "RETRY_SECONDS", 0)
    turns: list[int] = []

    def turn() -> None:
        gevent.sleep(0)
        turns.append(len(turns))
        if len(turns) == 2:
            raise ValueError("a bug of this turn")

    endless = gevent.spawn(forever, "testing", turn)
    while len(turns) < 4:
        gevent.sleep(0)
    endless.kill()
    assert caplog.messages == ["testing failed, and will be tried again"]
    assert "a bug of this turn" in caplog.text
    assert REGISTRY.get_sample_value("ratelimiter_background_errors_total", {"task": "testing"}) == 1
