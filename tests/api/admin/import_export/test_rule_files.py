"""Files of rules, read one by one: the same as read whole, with each wrong thing on its line."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable
from typing import Any, BinaryIO

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from app.api.admin.import_export import rule_files
from app.api.admin.import_export.json_items import MAX_ITEM, MAX_STRANGE, items_of_json
from app.api.admin.import_export.rule_files import InvalidRules, in_pieces, read_rules, write_rules
from app.api.admin.import_export.yaml_items import (
    MAX_DIRECTIVES,
    MAX_GAP,
    MAX_ITEM_VALUES,
    PART,
    Item,
    WrongShape,
    items_of_yaml,
)
from app.api.admin.import_export.yaml_subset import YamlError
from app.api.admin.rules.rule_json import merge_answer_lists
from app.api.admin.rules.rule_warnings import warnings_of_merge
from app.api.problems import Problem
from app.rules.rule import Limit, Rule
from app.rules.sql.merge import Merge
from app.rules.sync.yielding import unpaced
from tests.support.steps import Steps

READERS = pytest.mark.parametrize("read", [items_of_json, items_of_yaml], ids=["JSON", "YAML"])
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**12), 10**12) | st.text(st.characters(codec="utf-8"), max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text('ab\n"', max_size=3), inner, max_size=3),
    max_leaves=6,
)


class Dripping(io.BytesIO):
    """Gives a few bytes at a time."""

    def read(self, _: int | None = -1) -> bytes:
        return super().read(3)


def _read(read: Any, text: str | bytes) -> list[Item]:
    return list(read(io.BytesIO(text.encode() if isinstance(text, str) else text), unpaced))


@settings(deadline=None)
@given(rules=st.lists(values, max_size=4), indent=st.sampled_from([None, 0, 3]), ascii_only=st.booleans())
def test_json_is_read_as_the_standard_library_reads_it(rules: list[Any], indent: int | None, ascii_only: bool) -> None:
    text = json.dumps({"rules": rules}, indent=indent, ensure_ascii=ascii_only)
    assert [item.value for item in items_of_json(Dripping(text.encode()), unpaced)] == rules


@settings(deadline=None)
@given(ids=st.lists(st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1, max_size=9)))
def test_what_is_written_reads_back_the_same_in_both_spellings(ids: list[str]) -> None:
    rules = [
        Rule(
            id=1,
            client_id=client,
            endpoint=str(place),
            limits=(Limit(1, 2), Limit(3, 4, "gcra", 5)),
            description=client,
        )
        for place, client in enumerate(ids)
    ]
    for spelling in (True, False):
        text = "".join(write_rules(rules, yaml=spelling))
        assert yaml.safe_load(text) is not None if spelling else json.loads(text) is not None
        read = read_rules(io.BytesIO(text.encode()), yaml=spelling, tenant_id=1, default_algorithm="gcra")
        assert [(rule.client_id, rule.endpoint, rule.description) for rule in read] == [
            (rule.client_id, rule.endpoint, rule.description) for rule in rules
        ]
        assert [rule.limits for rule in read] == [rule.limits for rule in rules]


@READERS
def test_the_mark_of_some_editors_is_skipped(read: Any) -> None:
    """A byte order mark."""
    for file in (io.BytesIO, Dripping):
        assert [(item.value, item.line) for item in read(file(b'\xef\xbb\xbf{"rules": [1]}'), unpaced)] == [(1, 1)]


def test_lines_are_right_across_the_parts_of_a_long_file() -> None:
    text = '{"rules": [\n' + ",\n".join(json.dumps({"n": number, "d": "d" * 500}) for number in range(1_000)) + "\n]}\n"
    assert [item.line for item in _read(items_of_json, text)] == list(range(2, 1_002))
    assert [item.line for item in _read(items_of_yaml, text)] == list(range(2, 1_002))


@pytest.mark.parametrize(
    ("begin", "more"),
    [
        ("rules:\n- client_id: ", "x"),
        ("rules:\n- client_id: '", "x y "),
        ("rules:\n- client_id: |\n", "   x\n"),
        ("rules:\n- ? ", "x"),
        ("rules: &", "a"),
        ("rules: [", " "),
        ("", "# x\n"),
        ("%", "a"),
    ],
)
def test_yaml_without_an_end_is_read_no_further_than_allowed(begin: str, more: str) -> None:
    file = io.BytesIO((begin + more * (4 * MAX_GAP // len(more))).encode())
    with pytest.raises(YamlError, match=f"more than {MAX_GAP} characters"):
        list(items_of_yaml(file, unpaced))
    assert file.tell() <= MAX_GAP + 3 * PART


def test_yaml_may_have_long_texts_and_comments_and_few_directives() -> None:
    comment = "# x\n" * (MAX_GAP // 8)
    text = f"{comment}rules:\n- {'x' * (MAX_GAP // 2)}\n" + f"{comment}- 1\n" * 9
    assert len(_read(items_of_yaml, text)) == 10
    assert len(_read(items_of_yaml, "%TAG !a! b\n--- {rules: [1]}")) == 1


@pytest.mark.parametrize("begin", ["", "rules: []\n...\n"], ids=["first", "later"])
def test_directives_are_counted(begin: str) -> None:
    directives = "".join(f"%TAG !{number}! b\n" for number in range(MAX_DIRECTIVES + 2))
    with pytest.raises(YamlError, match="begin with %"):
        _read(items_of_yaml, f"{begin}{directives}--- x")


@READERS
@pytest.mark.parametrize(
    ("text", "path", "message"),
    [
        ('{"other": 1}', ["other"], "Unknown field."),
        ('{"rules": [], "other": 1}', ["other"], "Unknown field."),
        ('{"rules": {}}', ["rules"], "This must be a list of rules."),
        ("{}", ["rules"], "This must be a list of rules."),
        ("[1]", [], 'A file holds {"rules": […]}.'),
    ],
    ids=str,
)
def test_another_shape_is_told(read: Any, text: str, path: list[str], message: str) -> None:
    with pytest.raises(WrongShape) as caught:
        _read(read, text)
    assert (caught.value.path, str(caught.value)) == (path, message)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('{"rules": [1,\n2 3]}', "Expecting ',' or ']': line 2"),
        ('{"rules": [1,\n\n]}', "Expecting value: line 3"),
        ('{"rules": [1\n', "Expecting ',' or ']': line 2"),
        ('{"rules": ["a\n"]}', "Invalid control character at: line 1"),
        ('{"rules": [NaN]}', "NaN is no JSON number: line 1"),
        ('{"rules": []}\n]', "Extra data: line 2"),
        (b'{"rules": ["\xff"]}', "not UTF-8"),
        ('{"rules": [' + "[" * 5_000, "nested too deeply"),
        ('{"rules": [' + '"a' * 1, "Unterminated string"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_is_no_json_is_told_with_its_line(text: str, told: str) -> None:
    with pytest.raises(Problem) as caught:
        _read(items_of_json, text)
    assert caught.value.status == 400
    assert told in caught.value.detail


def test_a_second_list_of_rules_is_told() -> None:
    with pytest.raises(WrongShape, match="Given more than once"):
        _read(items_of_json, '{"rules": [1], "rules": []}')
    with pytest.raises(YamlError, match="rules is given more than once"):
        _read(items_of_yaml, "rules: [1]\nrules: []")


@pytest.mark.parametrize("text", [b"rules:\n- \xff", b"rules: []\n# \xff", b"\xff"])
def test_yaml_that_is_no_text_is_told_too(text: bytes) -> None:
    with pytest.raises(Problem, match="not UTF-8"):
        _read(items_of_yaml, text)


@pytest.mark.parametrize(
    ("file", "status"),
    [
        ('{"rules": [' + json.dumps("x" * MAX_ITEM) + "]}", WrongShape),
        ('{"rules": [[' + "1," * MAX_ITEM + "]]}", Problem),
        ('{"rules": [' + json.dumps([{}] * (MAX_ITEM_VALUES + 1)) + "]}", Problem),
        ('{"rules": 5, "x": "' + "x" * MAX_STRANGE + '"}', WrongShape),
        (" " * MAX_STRANGE + "[]", WrongShape),
    ],
    ids=["long", "long and many", "many", "no file of rules", "all blank"],
)
def test_no_value_is_read_whole_however_long_it_is(file: str, status: type[Exception]) -> None:
    with pytest.raises(status):
        _read(items_of_json, file)


def test_blanks_between_rules_may_be_long() -> None:
    blank = " \n" * MAX_ITEM
    assert [item.value for item in _read(items_of_json, f'{{"rules": [1{blank},{blank}2{blank}]{blank}}}{blank}')] == [
        1,
        2,
    ]


def test_a_rule_of_thousands_of_parts_is_no_yaml_here() -> None:
    assert _problem("rules:\n- [" + "1, " * (MAX_ITEM_VALUES + 1) + "]", yaml=True).status == 400


def _problem(text: str, *, yaml: bool) -> Problem:
    with pytest.raises(Problem) as caught:
        read_rules(io.BytesIO(text.encode()), yaml=yaml, tenant_id=1, default_algorithm="gcra")
    return caught.value


@pytest.mark.parametrize("yaml_or_json", [True, False], ids=["YAML", "JSON"])
def test_files_are_written_and_read_in_pieces(yaml_or_json: bool) -> None:
    """And what an import answers: between two chances for checks little is done, however many rules there are."""
    rules = [Rule(id=-1, client_id=f"c{number}", endpoint="a", limits=(Limit(5, 60),)) for number in range(600)]
    steps, merged = Steps(), Merge(rules, [(rule, rule) for rule in rules], list(rules), list(rules), list(rules))
    with steps:
        file = b"".join(in_pieces(write_rules(steps(rules), yaml=yaml_or_json)))
        read = read_rules(io.BytesIO(file), yaml=yaml_or_json, tenant_id=1, default_algorithm="gcra", pace=steps)
        assert read == rules
        shown = [list(changed) for _, changed in merge_answer_lists(merged, steps)]
        assert [len(each) for each in shown] == [len(rules)] * 4
        assert warnings_of_merge(merged, steps) == []
        twice = io.BytesIO(b"".join(in_pieces(write_rules(steps([*rules, rules[0]]), yaml=yaml_or_json))))
        with pytest.raises(InvalidRules):
            read_rules(twice, yaml=yaml_or_json, tenant_id=1, default_algorithm="gcra", pace=steps)
    assert steps.longest < len(rules), steps.where


def test_the_parser_rests_also_within_a_text_without_end() -> None:
    """A pace is asked for every part, not only for every event."""
    seen = list[Any]()

    def pace(items: Iterable[Any]) -> Iterable[Any]:
        for item in items:
            seen.append(item)
            yield item

    file: BinaryIO = io.BytesIO(b"rules:\n- '" + b"x" * (MAX_GAP - PART) + b"'")
    assert len(list(items_of_yaml(file, pace))) == 1
    assert len([item for item in seen if isinstance(item, bytes)]) > 10


@READERS
def test_a_tenants_bound_is_the_bound_of_a_file(read: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rule_files, "MAX_RULES", 2)
    file = json.dumps({"rules": [{"client_id": str(number), "rate": 1, "window": 1} for number in range(3)]})
    with pytest.raises(InvalidRules, match="There are more than 2"):
        read_rules(io.BytesIO(file.encode()), yaml=read is items_of_yaml, tenant_id=1, default_algorithm="gcra")
