"""Sliding window: the exact log. At most `rate` units in any window-long stretch of time.

State: ((stamp, units), …) - the charged checks of the last window, oldest first, stamps in microseconds.
"""

from __future__ import annotations

from app.limiter.algorithms.step_result import StepResult
from app.rules.rule import Limit

State = tuple[tuple[int, int], ...]


def step(state: State | None, limit: Limit, cost: int, now_us: int) -> tuple[State | None, StepResult]:
    from_future = bool(state) and state[-1][0] > now_us  # type: ignore[index]
    bound = now_us - limit.window_us
    log = tuple((min(stamp, now_us), units) for stamp, units in state or () if stamp > bound)
    used = sum(units for _, units in log)
    wait_us = _wait(log, used + cost - limit.rate, limit.window_us, now_us) if cost else 0
    if cost and wait_us == 0:
        log, used = (*log, (now_us, cost)), used + cost
    if (cost and wait_us == 0) or from_future:
        state = log
    reset_after_us = log[-1][0] + limit.window_us - now_us if log else 0
    return state, StepResult(wait_us, max(0, limit.rate - used), reset_after_us)


def _wait(log: State, surplus: int, window_us: int, now_us: int) -> int:
    """Return the microseconds until entries worth `surplus` units have left the window."""
    freed = 0
    for stamp, units in log if surplus > 0 else ():
        freed += units
        if freed >= surplus:
            return stamp + window_us - now_us
    return 0
