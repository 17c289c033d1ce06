"""Full collections of garbage wait for the end of long work, and of overlapping works for a hundred of them at most."""

from __future__ import annotations

import gc
import weakref

from app.rules.sync.garbage_collection import MOST_OVERLAPPING, NEVER, LongWork


class Ring:
    def __init__(self) -> None:
        self.itself = self


def old_garbage() -> weakref.ref[Ring]:
    """Which only a full collection finds."""
    ring = Ring()
    gc.collect()
    return weakref.ref(ring)


def test_thresholds_come_back_when_the_last_long_work_has_ended() -> None:
    usual, work = gc.get_threshold(), LongWork()
    with work:
        assert gc.get_threshold() == (*usual[:2], NEVER)
        with work:
            pass
        assert gc.get_threshold() == (*usual[:2], NEVER)
    assert gc.get_threshold() == usual


def test_long_work_without_end_does_not_put_it_off_for_ever() -> None:
    garbage, work = old_garbage(), LongWork()
    with work:
        for _ in range(MOST_OVERLAPPING - 1):
            with work:
                pass
        assert garbage() is not None
        with work:
            pass
        assert garbage() is None
