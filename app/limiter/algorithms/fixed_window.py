"""Fixed window: at most `rate` units from the first charged check until one window later, then a new window.

State: (used, start) - units charged in this window, and the microsecond of its first charge.
"""

from __future__ import annotations

from app.limiter.algorithms.step_result import StepResult
from app.rules.rule import Limit

State = tuple[int, int]


def step(state: State | None, limit: Limit, cost: int, now_us: int) -> tuple[State | None, StepResult]:
    used, start = state or (0, now_us)
    from_future = start > now_us
    if from_future:
        start = now_us
    elif now_us >= start + limit.window_us:
        used, start = 0, now_us
    used = min(used, limit.rate)
    ends_in = start + limit.window_us - now_us
    wait_us = 0 if used + cost <= limit.rate else ends_in
    if wait_us == 0:
        used += cost
    if (cost and wait_us == 0) or from_future:
        state = (used, start)
    return state, StepResult(wait_us, limit.rate - used, ends_in if used else 0)
