"""The algorithms as pure Python steps: test oracles for the Lua scripts, and the deciders in memory without Redis.

A step is `step(state, limit, cost, now_us) -> (state, StepResult)`. An earlier step returned `state`; None at first.
`cost` is at most the limit's capacity; 0 is a peek. `now_us` is Unix time in microseconds. A step that does not charge
returns the state unchanged, except that a state from the future is re-stamped to now without refill.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from app.limiter.algorithms import fixed_window, gcra, sliding_window, sliding_window_counter, token_bucket
from app.limiter.algorithms.step_result import StepResult
from app.limiter.decision import Outcome
from app.rules.rule import Limit

State = Any  # each algorithm's own tuple
Step = Callable[[State, Limit, int, int], tuple[State, StepResult]]

STEPS: dict[str | None, Step] = {
    "token_bucket": token_bucket.step,
    "fixed_window": fixed_window.step,
    "sliding_window": sliding_window.step,
    "sliding_window_counter": sliding_window_counter.step,
    "gcra": gcra.step,
}


def decide(
    states: Sequence[State], limits: Sequence[Limit], cost: int, now_us: int
) -> tuple[list[State] | None, Outcome]:
    """Decide all limits of one rule together, all or none, on states in memory. Mirrors `scripts/check.lua`.

    Returns the states to keep and the outcome. The states are None for a peek, which keeps nothing.
    """
    waits = [_wait(*pair, cost, now_us) for pair in zip(states, limits, strict=True)]
    longest = max(waits)
    charged = cost if longest == 0 else 0
    stepped = [
        STEPS[limit.algorithm](state, limit, charged, now_us) for state, limit in zip(states, limits, strict=True)
    ]
    views = [view for _, view in stepped]
    binding = min(range(len(limits)), key=lambda i: (views[i].remaining, -waits[i], -views[i].reset_after_us, i))
    outcome = Outcome(
        allowed=longest == 0,
        binding=binding,
        remaining=views[binding].remaining,
        retry_after_us=None if longest == math.inf else int(longest),
        reset_after_us=views[binding].reset_after_us,
        now_us=now_us,
    )
    return ([state for state, _ in stepped] if cost else None), outcome


def _wait(state: State, limit: Limit, cost: int, now_us: int) -> float:
    if cost == 0:
        return 0
    if cost > limit.capacity:
        return math.inf
    return STEPS[limit.algorithm](state, limit, cost, now_us)[1].wait_us
