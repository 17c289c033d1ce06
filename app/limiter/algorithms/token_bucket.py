"""Token bucket: `capacity` tokens, refilled continuously at `rate` per window.

State: (spent, stamp) - tokens missing from a full bucket times window_us, so that one microsecond refills exactly
`rate`; and the microsecond of the last charge.
"""

from __future__ import annotations

from app.limiter.algorithms.step_result import StepResult, ceil_div
from app.rules.rule import Limit

State = tuple[int, int]


def step(state: State | None, limit: Limit, cost: int, now_us: int) -> tuple[State | None, StepResult]:
    spent, stamp = state or (0, now_us)
    full = limit.capacity * limit.window_us
    refilled = max(0, now_us - stamp) * limit.rate
    spent = max(0, min(spent, full) - refilled)
    missing = max(0, spent + cost * limit.window_us - full)
    if missing == 0:
        spent += cost * limit.window_us
    if (cost and missing == 0) or stamp > now_us:
        state = (spent, now_us)
    return state, StepResult(
        wait_us=ceil_div(missing, limit.rate),
        remaining=(full - spent) // limit.window_us,
        reset_after_us=ceil_div(spent, limit.rate),
    )
