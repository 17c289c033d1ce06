"""The histogram that takes equal observations at once."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry

from app.observability.metrics import CountingHistogram

BUCKETS = (0.25, 0.5, 1.0)
AMOUNTS = (0.0, 0.125, 0.25, 0.25000001, 0.5, 0.75, 1.0, 1.00000001, 1024.0, -1.0)


def samples(observed: str, amount: float, times: int) -> dict[str, float]:
    """What a scrape shows by series, but for the time of its start."""
    registry = CollectorRegistry()
    histogram = CountingHistogram("seconds", "Of the test", buckets=BUCKETS, registry=registry)
    if observed == "at once":
        histogram.observe_many(amount, times)
    else:
        for _ in range(times):
            histogram.observe(amount)
    [metric] = registry.collect()
    return {f"{s.name}{s.labels}": s.value for s in metric.samples if not s.name.endswith("_created")}


@pytest.mark.parametrize("amount", AMOUNTS)
@pytest.mark.parametrize("times", [0, 1, 3, 1000])
def test_many_at_once_are_as_many_one_by_one(amount: float, times: int) -> None:
    at_once = samples("at once", amount, times)
    assert at_once == pytest.approx(samples("one by one", amount, times), rel=1e-12)
    assert at_once["seconds_count{}"] == times


def test_an_amount_on_a_bound_counts_in_its_bucket() -> None:
    counted = samples("at once", 0.5, 7)
    assert [counted[f"seconds_bucket{{'le': '{bound}'}}"] for bound in (*BUCKETS, "+Inf")] == [0, 7, 7, 7]
