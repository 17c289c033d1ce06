"""GCRA as a continuous-state leaky bucket (ITU-T I.371, annex A). Decides exactly as the token bucket does.

State: (level, stamp) - units times window_us in the leaky bucket at the last conforming check, and the microsecond of
that check. The theoretical arrival time of the virtual-scheduling form is stamp + level / rate.
"""

from __future__ import annotations

from app.limiter.algorithms.step_result import StepResult, ceil_div
from app.rules.rule import Limit

State = tuple[int, int]


def step(state: State | None, limit: Limit, cost: int, now_us: int) -> tuple[State | None, StepResult]:
    level, stamp = state or (0, now_us)
    brim = limit.capacity * limit.window_us
    level = max(0, min(level, brim) - limit.rate * max(0, now_us - stamp))
    tolerance = brim - cost * limit.window_us
    conforms = level <= tolerance
    wait_us = 0 if conforms else ceil_div(level - tolerance, limit.rate)
    if conforms:
        level += cost * limit.window_us
    if (cost and conforms) or stamp > now_us:
        state = (level, now_us)
    return state, StepResult(wait_us, (brim - level) // limit.window_us, ceil_div(level, limit.rate))
