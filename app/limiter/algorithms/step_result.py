"""The state of a limit as a step reports it."""

from typing import NamedTuple


class StepResult(NamedTuple):
    """The state of a limit after a step. Times are microseconds from now."""

    wait_us: int  # until the cost fits; 0: it fitted and was charged
    remaining: int  # whole units left
    reset_after_us: int  # until all units are back


def ceil_div(dividend: int, divisor: int) -> int:
    return -(-dividend // divisor)
