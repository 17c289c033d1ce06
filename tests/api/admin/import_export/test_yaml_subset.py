"""YAML: what is written reads back equal, and what would be dangerous or ambiguous is refused with its line."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from app.api.admin.import_export.yaml_subset import MAX_DEPTH, YamlError, line_of, read, write

scalars = st.none() | st.booleans() | st.integers(-(10**12), 10**12) | st.text(st.characters(codec="utf-8"), max_size=8)
tricky = st.sampled_from(
    ["no", "1e5", "089", "0x1f", "1_000", "12:30", "~", "", "null", "True", "1.5", "- a", "*", "<<"]
)
values = st.recursive(
    scalars | tricky, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abc*", max_size=3), inner)
)


@given(value=values)
def test_what_is_written_reads_back_equal(value: Any) -> None:
    if _depth(value) <= MAX_DEPTH:
        assert read(write(value)) == value


def _depth(value: Any) -> int:
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inside is None else 1 + max(map(_depth, inside), default=0)


@pytest.mark.parametrize("text", ["no", "089", "1_000", "0x1f", "12:30", "1e5", "2024-01-01", "yes", "'5'", ".inf"])
def test_what_only_yaml_1_1_takes_for_something_else_is_a_text(text: str) -> None:
    assert read(text) == text.strip("'")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a: 1\na: 2", 2),
        ("a: &x 1\nb: *x", 1),
        ("a: 1\nb: *x", 2),
        ("a: !!python/object:os.system {}", 1),
        ("a: !!str 5", 1),
        ("a: 1\n\n---\nb: 2", 4),
        ("5: a", 1),
        ("? [a]\n: b", 1),
        ("a: 1\nb: [1, 2", 3),
        ("a: 1\n\tb: 2", 2),
        ("- " * (MAX_DEPTH + 2) + "a", 1),
    ],
)
def test_what_is_refused_names_its_line(text: str, line: int) -> None:
    with pytest.raises(YamlError) as caught:
        read(text)
    assert caught.value.line == line
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("bomb", ["[" * 500_000, "{a: " * 250_000, "- " * 500_000, "? " * 500_000, "&a [*a]"])
def test_a_bomb_is_one_error(bomb: str) -> None:
    with pytest.raises(YamlError):
        read(bomb)


def test_lines_are_those_of_the_text_also_of_json() -> None:
    text = "rules:\n- client_id: a\n  limits:\n  - rate: 1\n    window: 2\n- {client_id: b,\n   rate: 5}\n"
    value = read(text)
    assert value == yaml.safe_load(text)
    assert line_of(value, ["rules", 0, "limits", 0, "window"]) == 5
    assert line_of(value, ["rules", 1, "rate"]) == 7
    assert line_of(value, ["rules", 1, "burst"]) == 6  # absent: where it would have to be
    assert line_of(value, []) == 1
    assert line_of(read('{"rules": [\n {"client_id": "a"},\n {"rate": 0}\n]}'), ["rules", 1, "rate"]) == 3
