"""The sketch keeps what occurs most, within its bound."""

from __future__ import annotations

import random
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from app.observability.heavy_hitters import HeavyHitters


@given(items=st.lists(st.integers(0, 30), max_size=400), capacity=st.integers(1, 12))
def test_counts_are_never_too_high_and_too_low_by_no_more_than_the_bound(items: list[int], capacity: int) -> None:
    sketch = HeavyHitters[int](capacity)
    for item in items:
        sketch.add(item)
    counts, exact = sketch.drain(), Counter(items)
    assert len(counts) <= capacity
    for item, count in exact.items():
        assert count - len(items) / (capacity + 1) <= counts.get(item, 0) <= count
    assert sketch.drain() == {}


def test_the_few_stand_out_among_a_hundred_thousand() -> None:
    dice = random.Random(1)
    items = [f"heavy {n}" for n in range(10) for _ in range(2_000)] + [f"light {n}" for n in range(100_000)]
    dice.shuffle(items)
    sketch = HeavyHitters[str](200)
    for item in items:
        sketch.add(item)
    counts = sketch.drain()
    assert {name for name, _ in Counter(counts).most_common(10)} == {f"heavy {n}" for n in range(10)}
