"""Counts by rule: exact over workers that come and go, bounded, and gone with their rules."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from app.observability import rule_counts
from app.observability.rule_counts import COLUMNS, DEFAULT_SERIES, SLOTS, Labels, RuleCounts, Series
from app.rules.sync.yielding import unpaced

ROUNDS = 2_000


def series(*ids: int) -> dict[int, Series]:
    return {DEFAULT_SERIES.key: DEFAULT_SERIES} | {
        rule_id: Series(rule_id, Labels(f"client {rule_id}", "*")) for rule_id in ids
    }


def allowed(counts: RuleCounts) -> dict[str, float]:
    return {labels.client_id: total[0] for labels, total in counts.totals(unpaced).items()}


def in_a_worker(work: Callable[[], None]) -> int:
    """Run it in a fork, as workers are; its pid."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
            os._exit(0)
        except BaseException:
            os._exit(1)
    return pid


def test_workers_that_count_at_the_same_time_and_after_one_another_are_added_up() -> None:
    counts, rules = RuleCounts(), series(1, 2)
    counts.reserve(3)
    counts.of(DEFAULT_SERIES.key)  # as compiled rules made before the fork do
    counts.follow(rules.get)

    def work(place: int) -> None:
        counts.take(place)
        for _ in range(ROUNDS):
            counts.of(1).allowed(1)
            counts.of(2).blocked(3)
            counts.of(2).granted(5)
            counts.of(2).returned(4)
            counts.of(DEFAULT_SERIES.key).allowed(1)

    for _ in range(2):  # the second time each goes on with what its predecessor counted
        workers = [in_a_worker(lambda place=place: work(place)) for place in range(3)]
        assert [os.waitpid(pid, 0)[1] for pid in workers] == [0, 0, 0]
    times = 2 * 3 * ROUNDS
    assert counts.totals(unpaced) == {
        DEFAULT_SERIES.labels: [times, 0, 0, 0],
        rules[1].labels: [times, 0, 0, 0],
        rules[2].labels: [0, 3 * times, 5 * times, 4 * times],
    }


def test_what_was_made_before_the_fork_counts_at_the_place_taken() -> None:
    counts = RuleCounts()
    counts.reserve(2)
    early = counts.of(DEFAULT_SERIES.key)
    counts.take(1)
    early.allowed(2)
    counts.of(DEFAULT_SERIES.key).allowed(3)
    counts.take(0)
    early.allowed(5)
    assert allowed(counts) == {"default": 10}


def test_a_worker_beyond_the_places_reserved_counts_for_itself(caplog: pytest.LogCaptureFixture) -> None:
    counts = RuleCounts()
    counts.take(1)
    counts.of(DEFAULT_SERIES.key).allowed(1)
    assert allowed(counts) == {"default": 0}
    assert "place 1" in caplog.text


def test_a_series_ends_with_its_rule_and_begins_anew_with_another_name() -> None:
    counts, rules = RuleCounts(), series(1, 2)
    counts.follow(rules.get)
    held = counts.of(1)
    held.allowed(7)
    assert allowed(counts) == {"default": 0, "client 1": 7}
    rules[1] = Series(1, Labels("renamed", "*"))
    assert allowed(counts) == {"default": 0}
    counts.of(1).allowed(2)
    held.allowed(1)  # decided before the change, counted after it
    assert allowed(counts) == {"default": 0, "renamed": 3}
    del rules[1]
    assert allowed(counts) == {"default": 0}
    counts.of(1).allowed(1)  # nowhere
    assert allowed(counts) == {"default": 0}


def test_two_rules_with_the_same_labels_are_one_series() -> None:
    counts, labels = RuleCounts(), Labels("same", "*")
    counts.follow({1: Series(1, labels), 2: Series(2, labels)}.get)
    counts.of(1).allowed(1)
    counts.of(2).allowed(2)
    assert counts.totals(unpaced)[labels][0] == 3


def test_rules_without_end_take_the_slots_of_those_that_have_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rule_counts, "SLOTS", 8)
    counts = RuleCounts()
    rules: dict[int, Series] = {}
    counts.follow(rules.get)
    late = None
    for generation in range(20):
        rules.clear()
        rules |= series(*range(5 * generation, 5 * generation + 5))
        rules.pop(DEFAULT_SERIES.key)
        for rule_id in rules:
            counts.of(rule_id).allowed(rule_id)
        if late is not None:
            late.allowed(1_000)  # of a rule that has gone, and whose slot may be another's
        late = counts.of(5 * generation)
        assert {name: total for name, total in allowed(counts).items() if name != "default"} == {
            f"client {rule_id}": rule_id for rule_id in rules
        }


def test_where_all_slots_are_taken_the_next_rule_counts_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rule_counts, "SLOTS", 3)
    counts = RuleCounts()
    counts.follow(series(*range(1, 9)).get)
    for rule_id in range(1, 9):
        counts.of(rule_id).allowed(1)
    assert allowed(counts) == {"default": 0, "client 1": 1, "client 2": 1, "client 3": 1}


def test_places_do_not_touch_one_another() -> None:
    counts, rules = RuleCounts(), series(*range(1, SLOTS + 10))
    counts.reserve(2)
    counts.follow(rules.get)
    for place in (1, 0):
        counts.take(place)
        for rule_id in range(1, SLOTS + 1):
            counts.of(rule_id).returned(rule_id)
    totals = counts.totals(unpaced)
    assert len(totals) == SLOTS + 1
    assert all(totals[rules[n].labels] == [0] * (COLUMNS - 1) + [2 * n] for n in range(1, SLOTS + 1))
