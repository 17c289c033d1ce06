"""Waiting until a check is admitted, as workers of a queue do."""

from __future__ import annotations

import time
from typing import Callable

from ratelimiter_client.arguments import refuse_unless
from ratelimiter_client.decision import Decision

LEAST_SECONDS = 0.001


def admitted(
    check: Callable[[], Decision],
    at_most: float,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], object] = time.sleep,
) -> Decision:
    """Check, sleep for as long as the denial says, and check again. Returns the last decision.

    That is a denial, at once, if waiting does not help or would take more than `at_most` seconds in all.
    """
    give_up = clock() + seconds(at_most)
    while True:
        decision = check()
        pause = pause_after(decision, give_up - clock())
        if pause is None:
            return decision
        sleep(pause)


def pause_after(decision: Decision, left: float) -> float | None:
    """Seconds until the next check, if that many are left; None: this decision is the last."""
    if decision.allowed or decision.retry_after_ms is None:
        return None
    pause = max(LEAST_SECONDS, decision.retry_after_ms / 1000)
    return pause if pause <= left else None


def seconds(at_most: float) -> float:
    """The valid number of seconds. Raises TypeError or ValueError."""
    is_number = isinstance(at_most, (int, float)) and not isinstance(at_most, bool)
    refuse_unless(is_number, "at_most", at_most, "a number of seconds")
    refuse_unless(at_most >= 0, "at_most", at_most, "seconds from 0", ValueError)
    return at_most
