"""Full collections of garbage wait for the end of long work, and of overlapping works for a minute at most."""

from __future__ import annotations

import gc
import weakref

from app.rules.garbage import NEVER, OVERDUE_SECONDS, LongWork


class Ring:
    def __init__(self) -> None:
        self.itself = self


def old_garbage() -> weakref.ref[Ring]:
    """Which only a full collection finds."""
    ring = Ring()
    gc.collect()
    return weakref.ref(ring)


def test_thresholds_come_back_when_the_last_long_work_has_ended() -> None:
    usual, work = gc.get_threshold(), LongWork(lambda: 0.0)
    with work:
        assert gc.get_threshold() == (*usual[:2], NEVER)
        with work:
            pass
        assert gc.get_threshold() == (*usual[:2], NEVER)
    assert gc.get_threshold() == usual


def test_long_work_without_end_puts_it_off_for_a_minute() -> None:
    now, garbage = [5.0], old_garbage()
    work = LongWork(lambda: now[0])
    with work:
        with work:
            now[0] += OVERDUE_SECONDS
        assert garbage() is not None
        with work:
            now[0] += 1
        assert garbage() is None
