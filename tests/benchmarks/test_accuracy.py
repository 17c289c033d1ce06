"""The judge of the load test accuses a service that admits one too many, and no other."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.limiter.algorithms import STEPS
from app.rules.rule import ALGORITHMS, Limit
from benchmarks.accuracy import Answer, violations

LIMIT, WINDOW = 5, 10
START = 1_795_000_000


def answer(began: float, ended: float | None = None, **fields: Any) -> Answer:
    given = {"allowed": True, "degraded": False, "rule_id": 7, "reset_at": 0.0, "algorithm": "token_bucket"} | fields
    return Answer("user", began, began if ended is None else ended, limit=LIMIT, window=WINDOW, **given)


@given(st.lists(st.tuples(st.integers(0, 3_000_000), st.integers(0, 500_000), st.integers(0, 500_000)), max_size=60))
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_algorithms_themselves_are_never_accused(algorithm: str, checks: list[tuple[int, int, int]]) -> None:
    limit, state, now_us, answers = Limit(LIMIT, WINDOW, algorithm), None, START * 1_000_000, []
    for pause_us, before_us, after_us in checks:
        now_us += pause_us
        state, view = STEPS[algorithm](state, limit, 1, now_us)
        began, ended = (now_us - before_us) / 1e6, (now_us + after_us) / 1e6
        reset_at = (now_us + view.reset_after_us) / 1e6
        answers.append(answer(began, ended, algorithm=algorithm, allowed=view.wait_us == 0, reset_at=reset_at))
    assert violations(answers) == []


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_one_too_many_at_once_is_seen(algorithm: str) -> None:
    exactly = [answer(START, START + 0.1, algorithm=algorithm)] * LIMIT
    assert violations(exactly) == []
    [line] = violations([*exactly, exactly[0]])
    assert line.startswith(f"user by rule 7 ({algorithm}, 5 per 10 s): 6 admitted ")
    assert line.endswith("allowed are 5")


def test_a_bucket_that_refills_too_fast_is_seen() -> None:
    fair = [answer(START)] * LIMIT + [answer(START + 2 * n) for n in range(1, 20)]
    assert violations(fair) == []
    assert "within 30.000 s" in violations([answer(START)] * LIMIT + [answer(START + 1.5 * n) for n in range(1, 21)])[0]


def test_a_window_is_known_by_its_end() -> None:
    def in_window(at: float, ends: float) -> Answer:
        return answer(at, algorithm="fixed_window", reset_at=ends)

    meet = [in_window(START + 9, START + 10)] * LIMIT + [in_window(START + 11, START + 21)] * LIMIT
    assert violations(meet) == []  # ten within two seconds, but of two windows
    assert violations([*meet, in_window(START + 19, START + 21)])[0].startswith("user by rule 7 (fixed_window")


def test_what_no_counter_admitted_is_not_held_against_one() -> None:
    others = [{"allowed": False}, {"degraded": True}, {"algorithm": None}]
    assert violations([answer(START, **fields) for fields in others for _ in range(20)]) == []
