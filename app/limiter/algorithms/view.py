"""What a step shows of a limit."""

from typing import NamedTuple


class View(NamedTuple):
    """A limit as a step leaves it. Times are microseconds from now."""

    wait_us: int  # until the cost fits; 0: it fitted and was charged
    remaining: int  # whole units left
    reset_after_us: int  # until all units are back


def ceil_div(dividend: int, divisor: int) -> int:
    return -(-dividend // divisor)
