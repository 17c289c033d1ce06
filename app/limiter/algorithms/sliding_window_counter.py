"""Sliding window counter: two epoch-aligned windows, the previous one weighed by its remaining overlap.

State: (index, current, previous) - number of the epoch-aligned window, units charged in it, and in the one before.
"""

from __future__ import annotations

from app.limiter.algorithms.step_result import StepResult
from app.rules.rule import Limit

State = tuple[int, int, int]


def step(state: State | None, limit: Limit, cost: int, now_us: int) -> tuple[State | None, StepResult]:
    index, offset = divmod(now_us, limit.window_us)
    ahead = limit.window_us - offset  # microseconds until the next window begins
    current, previous = _slid(state, index, limit.rate)
    wait_us = _wait(current, previous, ahead, limit, cost) if cost else 0
    if wait_us == 0:
        current += cost
    if (cost and wait_us == 0) or (state and state[0] > index):
        state = (index, current, previous)
    room = (limit.rate - current) * limit.window_us - previous * ahead
    reset_after_us = ahead + limit.window_us if current else ahead if previous else 0
    return state, StepResult(wait_us, max(0, room // limit.window_us), reset_after_us)


def _slid(state: State | None, index: int, rate: int) -> tuple[int, int]:
    """Return (current, previous) as seen from window `index`."""
    if state is None or state[0] < index - 1:
        return 0, 0
    if state[0] == index - 1:
        return 0, min(state[1], rate)
    return min(state[1], rate), min(state[2], rate)


def _wait(current: int, previous: int, ahead: int, limit: Limit, cost: int) -> int:
    room = (limit.rate - current - cost) * limit.window_us
    if room >= previous * ahead:
        return 0
    if room >= 0:
        return ahead - room // previous
    # The cost does not fit in this window. In the next one, `current` is the weight that slides out.
    return ahead + limit.window_us - (limit.rate - cost) * limit.window_us // current
