"""One table of cases for every algorithm on every implementation, then what makes each algorithm itself."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from app.rules.rule import MAX_AMOUNT, MAX_RATE_TIMES_WINDOW, MAX_WINDOW_SECONDS, Limit
from tests.support.deciders import SECOND, START, Decider

MINUTE = 60 * SECOND


@dataclass(frozen=True)
class Step:
    """At `at` microseconds after the start a check of `cost` is `allowed` and leaves `remaining`."""

    at: int
    cost: int
    allowed: bool
    remaining: int


# What all algorithms agree on, for 10 per 60 s. Times lie in one epoch-aligned window or far apart.
COMMON = {
    "a fresh client has the whole limit": [Step(0, 0, True, 10), Step(0, 1, True, 9)],
    "each check takes its cost": [Step(0, 3, True, 7), Step(0, 4, True, 3), Step(0, 3, True, 0)],
    "the limit can be taken at once": [Step(0, 10, True, 0), Step(0, 1, False, 0)],
    "a denial takes nothing": [Step(0, 8, True, 2), Step(0, 3, False, 2), Step(0, 2, True, 0)],
    "a peek takes nothing and is allowed when nothing is left": [Step(0, 10, True, 0), Step(0, 0, True, 0)],
    "more than the limit never fits": [Step(0, 11, False, 10), Step(0, MAX_AMOUNT, False, 10), Step(0, 10, True, 0)],
    "all is back after two windows": [Step(0, 10, True, 0), Step(2 * MINUTE, 10, True, 0)],
    "a clock that stepped back gives nothing": [Step(MINUTE, 10, True, 0), Step(0, 1, False, 0)],
    "a clock that stepped back takes nothing": [Step(MINUTE, 4, True, 6), Step(0, 6, True, 0)],
    "nor does a peek meanwhile": [Step(MINUTE, 10, True, 0), Step(0, 0, True, 0), Step(MINUTE // 2, 1, False, 0)],
}


@pytest.mark.parametrize("steps", COMMON.values(), ids=COMMON.keys())
def test_common_cases(decider: Decider, algorithm: str, steps: list[Step]) -> None:
    limit = Limit(rate=10, window=60, algorithm=algorithm)
    for step in steps:
        outcome = decider.check([limit], step.cost, START + step.at)
        assert (outcome.allowed, outcome.remaining) == (step.allowed, step.remaining), step


def test_waiting_the_retry_time_admits_and_one_microsecond_less_denies(decider: Decider, algorithm: str) -> None:
    limit = Limit(rate=7, window=13, algorithm=algorithm)
    now = START
    for cost in (3, 2, 2, 7, 1, 5, 4, 7):
        outcome = decider.check([limit], cost, now)
        if not outcome.allowed:
            assert outcome.retry_after_us is not None
            assert outcome.retry_after_us > 0
            early = decider.check([limit], cost, now + outcome.retry_after_us - 1)
            assert not early.allowed
            assert early.retry_after_us == 1
            now += outcome.retry_after_us
            outcome = decider.check([limit], cost, now)
            assert outcome.allowed
        now += 137_731


def test_remaining_is_back_at_the_limit_at_reset_and_not_before(decider: Decider, algorithm: str) -> None:
    limit = Limit(rate=7, window=13, algorithm=algorithm)
    for at, cost in ((0, 2), (1_234_567, 1), (5_000_000, 3)):
        outcome = decider.check([limit], cost, START + at)
    reset = START + 5_000_000 + outcome.reset_after_us
    assert decider.check([limit], 0, reset).remaining == 7
    assert decider.check([limit], 0, reset - 1).remaining < 7


@pytest.mark.parametrize("count", [1, 2])
def test_after_a_clock_step_nobody_waits_more_than_a_window_longer(
    decider: Decider, algorithm: str, count: int
) -> None:
    limits = [Limit(rate=5, window=10, algorithm=algorithm, counter=number) for number in range(count)]
    before = decider.check(limits, 5, START + 3600 * SECOND)
    assert before.allowed
    denied = decider.check(limits, 5, START)
    assert not denied.allowed
    # The longest wait of any algorithm here is two windows (the counter's); the step may add one.
    assert denied.retry_after_us is not None
    assert denied.retry_after_us <= 20 * SECOND
    assert not decider.check(limits, 5, START + denied.retry_after_us - 1).allowed
    assert decider.check(limits, 5, START + denied.retry_after_us).allowed


@pytest.mark.parametrize(
    ("rate", "window"),
    [(1, 1), (MAX_AMOUNT, 9), (MAX_AMOUNT, 1), (285, MAX_WINDOW_SECONDS), (1, MAX_WINDOW_SECONDS), (99_991, 90_008)],
)
def test_the_extremes_of_the_contract_stay_exact(decider: Decider, algorithm: str, rate: int, window: int) -> None:
    assert rate * window <= MAX_RATE_TIMES_WINDOW
    limit = Limit(rate=rate, window=window, algorithm=algorithm)
    now, cost = START + 1, 1
    assert decider.check([limit], rate, START).allowed
    outcome = decider.check([limit], cost, now)
    if outcome.allowed:  # at the highest rates a microsecond refills a thousand units
        cost = outcome.remaining + 1
        outcome = decider.check([limit], cost, now)
    assert not outcome.allowed
    assert outcome.retry_after_us is not None
    assert not decider.check([limit], cost, now + outcome.retry_after_us - 1).allowed
    assert decider.check([limit], cost, now + outcome.retry_after_us).allowed
    assert decider.check([limit], rate, START + 4 * window * SECOND).allowed


def test_more_units_after_a_raised_rate_and_fewer_after_a_lowered_one(decider: Decider, algorithm: str) -> None:
    def limit(rate: int) -> Limit:
        return Limit(rate=rate, window=60, algorithm=algorithm)

    assert decider.check([limit(10)], 6, START).remaining == 4
    assert decider.check([limit(20)], 0, START).remaining == 14
    assert decider.check([limit(8)], 0, START).remaining == 2
    assert decider.check([limit(3)], 0, START).remaining == 0
    assert not decider.check([limit(3)], 1, START).allowed
    assert decider.check([limit(10)], 4, START).remaining == 0


def test_two_limits_are_charged_together_or_not_at_all(decider: Decider, algorithm: str) -> None:
    limits = [Limit(10, 1, algorithm, counter=1), Limit(15, 60, algorithm, counter=2)]
    assert decider.check(limits, 10, START).allowed
    second = decider.check(limits, 1, START)
    assert (second.allowed, second.binding, second.remaining) == (False, 0, 0)
    assert decider.check(limits, 0, START + 2 * SECOND).remaining == 5  # the minute has lost nothing to the denial
    denied = decider.check(limits, 6, START + 2 * SECOND)
    assert (denied.allowed, denied.binding) == (False, 1)
    assert decider.check([limits[0]], 0, START + 2 * SECOND).remaining == 10  # nor the second


def test_limits_of_different_algorithms_decide_in_one_script(decider: Decider) -> None:
    limits = [
        Limit(4, 1, "fixed_window", counter=1),
        Limit(6, 60, "token_bucket", counter=2),
        Limit(8, 3600, "sliding_window", counter=3),
        Limit(9, 3600, "gcra", counter=4),
        Limit(9, 3600, "sliding_window_counter", counter=5),
    ]
    assert decider.check(limits, 4, START).binding == 0
    denied = decider.check(limits, 3, START + 2 * SECOND)
    assert (denied.allowed, denied.binding, denied.remaining) == (False, 1, 2)
    assert decider.check(limits, 2, START + 2 * SECOND).allowed


def test_the_longest_wait_decides_and_a_tie_shows_the_longer_one(decider: Decider) -> None:
    limits = [Limit(5, 1, "fixed_window", counter=1), Limit(5, 60, "fixed_window", counter=2)]
    assert decider.check(limits, 5, START).binding == 1
    denied = decider.check(limits, 1, START)
    assert (denied.binding, denied.retry_after_us) == (1, 60 * SECOND)


def test_a_peek_waits_for_nothing_so_that_a_tie_shows_the_later_reset(decider: Decider) -> None:
    minute = Limit(4, 60, "fixed_window", counter=2)
    assert decider.check([Limit(4, 10, "sliding_window", counter=1), minute], 4, START).allowed
    lowered = [Limit(2, 10, "sliding_window", counter=1), minute]  # a check would have to wait for this one first
    assert decider.check(lowered, 0, START).binding == 1


def test_one_limit_that_can_never_admit_makes_waiting_useless(decider: Decider) -> None:
    limits = [Limit(100, 1, "gcra", counter=1), Limit(10, 60, "gcra", counter=2)]
    outcome = decider.check(limits, 11, START)
    assert (outcome.allowed, outcome.retry_after_us) == (False, None)
    assert decider.check(limits, 10, START).allowed


@pytest.mark.parametrize("algorithm", ["token_bucket", "gcra"])
def test_buckets_refill_continuously_up_to_the_burst(decider: Decider, algorithm: str) -> None:
    limit = Limit(rate=6, window=60, algorithm=algorithm, burst=3)
    assert decider.check([limit], 3, START).remaining == 0
    assert decider.check([limit], 1, START).retry_after_us == 10 * SECOND
    assert decider.check([limit], 0, START + 10 * SECOND - 1).remaining == 0
    assert decider.check([limit], 0, START + 10 * SECOND).remaining == 1
    assert decider.check([limit], 0, START + 3600 * SECOND).remaining == 3


def test_a_fixed_window_begins_with_its_first_check_and_ends_as_a_whole(decider: Decider) -> None:
    limit = Limit(rate=2, window=60, algorithm="fixed_window")
    decider.check([limit], 1, START)
    decider.check([limit], 1, START + 50 * SECOND)
    assert decider.check([limit], 1, START + MINUTE - 1).retry_after_us == 1
    assert decider.check([limit], 2, START + MINUTE).allowed


def test_the_log_frees_units_as_each_check_leaves_the_window(decider: Decider) -> None:
    limit = Limit(rate=3, window=60, algorithm="sliding_window")
    for at in (0, 10, 20):
        assert decider.check([limit], 1, START + at * SECOND).allowed
    assert decider.check([limit], 1, START + 30 * SECOND).retry_after_us == 30 * SECOND
    assert decider.check([limit], 2, START + 30 * SECOND).retry_after_us == 40 * SECOND
    assert decider.check([limit], 1, START + MINUTE).remaining == 0
    assert not decider.check([limit], 1, START + 70 * SECOND - 1).allowed


def test_the_only_entry_of_the_log_leaves_exactly_a_window_later(decider: Decider) -> None:
    limit = Limit(rate=3, window=60, algorithm="sliding_window")
    assert decider.check([limit], 1, START).remaining == 2
    assert decider.check([limit], 0, START + MINUTE - 1).remaining == 2
    assert decider.check([limit], 0, START + MINUTE).remaining == 3


def test_the_counter_weighs_the_previous_window_by_its_overlap(decider: Decider) -> None:
    limit = Limit(rate=10, window=60, algorithm="sliding_window_counter")
    aligned = START - START % MINUTE
    assert decider.check([limit], 10, aligned + 30 * SECOND).allowed
    assert decider.check([limit], 0, aligned + MINUTE).remaining == 0
    assert decider.check([limit], 0, aligned + MINUTE + 15 * SECOND).remaining == 2  # 10 - 10 x 45/60
    assert decider.check([limit], 3, aligned + MINUTE + 15 * SECOND).retry_after_us == 3 * SECOND
    assert decider.check([limit], 0, aligned + 2 * MINUTE).remaining == 10


def test_after_a_lowered_rate_the_counter_weighs_no_more_than_the_new_one(decider: Decider) -> None:
    limit = Limit(rate=10, window=60, algorithm="sliding_window_counter")
    aligned = START - START % MINUTE
    assert decider.check([limit], 10, aligned + 30 * SECOND).allowed
    assert decider.check([limit], 1, aligned + MINUTE + 30 * SECOND).remaining == 4
    lowered = Limit(rate=4, window=60, algorithm="sliding_window_counter")
    assert decider.check([lowered], 0, aligned + MINUTE + 45 * SECOND).remaining == 2  # 4 - 1 - 4 x 15/60
