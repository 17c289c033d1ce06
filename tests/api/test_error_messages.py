"""Errors that are told are few and short, whatever was wrong with whatever."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from app.api.error_messages import MAX_ERRORS, MAX_MESSAGES_BYTES, bounded_messages, flat, nested

NAMES = st.text(max_size=100) | st.sampled_from(["_schema", "checks"]) | st.integers(0, 9)
MESSAGES = st.lists(st.text(min_size=1, max_size=400), min_size=1, max_size=3)
NESTS = st.dictionaries(
    NAMES, st.recursive(MESSAGES, lambda inner: st.dictionaries(NAMES, inner, min_size=1, max_size=4)), max_size=6
)


@given(messages=NESTS)
def test_what_is_told_fits_a_page_and_is_in_place(messages: dict[Any, Any]) -> None:
    shown = bounded_messages(messages)
    errors = list(flat(shown))
    assert len(errors) <= min(MAX_ERRORS, len(list(flat(messages))))
    assert sum(len(json.dumps([path, message])) for path, message in errors) <= 2 * MAX_MESSAGES_BYTES
    assert nested(errors) == shown  # it is a nest of lists of texts


def test_of_many_errors_the_first_hundred_are_told() -> None:
    errors = {place: {"cost": ["wrong"], "x" * 1000: ["Unknown field."]} for place in range(1000)}
    shown = bounded_messages({"checks": errors})["checks"]
    assert list(shown) == [str(place) for place in range(50)]
    assert shown["0"] == {"cost": ["wrong"], "x" * 63 + "…": ["Unknown field."]}


def test_names_that_need_escapes_fill_the_page_sooner() -> None:
    shown = bounded_messages({f"{place:04}" + "🦊" * 1000: ["Unknown field."] for place in range(1000)})
    assert 10 < len(shown) < MAX_ERRORS
    assert len(json.dumps(shown)) <= MAX_MESSAGES_BYTES


def test_a_whole_and_its_parts_may_both_be_wrong() -> None:
    both = [(["a"], "one"), (["a", "b"], "two"), (["a"], "three")]
    assert nested(both) == {"a": {"_schema": ["one", "three"], "b": ["two"]}}
