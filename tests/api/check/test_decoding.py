"""The compiled decoder and the schemas agree on what is valid, and on what it means."""

from __future__ import annotations

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from app.api.check.decoding import _valid, decode_batch, decode_check
from app.api.check.fast_decoding import Batch, fast_batch, fast_check
from app.api.check.schemas import BatchSchema, CheckSchema
from app.api.problems import Problem
from app.api.strict_json import parsed
from app.limiter.decision import Check

NAMES = st.sampled_from(["client_id", "limit_key", "cost", "request_id", "groups", "checks", "other"])
TEXTS = st.text(max_size=6) | st.sampled_from(["client_id", "a", "", "global", "\x7f", "\u2028", "é", '"', "x" * 257])
GROUPS = st.lists(TEXTS, max_size=9) | st.lists(st.sampled_from("abcdefghij"), max_size=9)
NUMBERS = st.integers(-2, 3) | st.integers(10**9 - 1, 10**9 + 1) | st.floats()
VALUES = TEXTS | GROUPS | NUMBERS | st.booleans() | st.none()
MEMBERS = st.lists(st.tuples(NAMES, VALUES) | st.tuples(st.just("groups"), GROUPS), max_size=5)
# Members of a batch beside its checks.
FLAGS = st.lists(st.tuples(st.sampled_from(["together", "headers", "groups"]), VALUES), max_size=3)


def spelled(members: list[tuple[str, object]], ascii_only: bool) -> str:
    """JSON text with members in this order, repeated ones too."""
    parts = [f"{json.dumps(name)}: {json.dumps(value, ensure_ascii=ascii_only)}" for name, value in members]
    return "{" + ",".join(parts) + "}"


def by_schema(raw: bytes) -> Check | None:
    try:
        return Check(**_valid(CheckSchema(), parsed(raw)))
    except Problem:
        return None


def batch_by_schema(raw: bytes) -> Batch | None:
    try:
        sent = _valid(BatchSchema(), parsed(raw))
    except Problem:
        return None
    return Batch([Check(**item) for item in sent["checks"]], sent["together"], sent["headers"])


@given(members=MEMBERS, ascii_only=st.booleans())
@example(members=[("client_id", "a"), ("client_id", "a")], ascii_only=True)
@example(members=[("client_id", "a"), ("cost", 1), ("cost", 1)], ascii_only=True)
@example(members=[("client_id", "client_id"), ("limit_key", "global")], ascii_only=True)
@example(members=[("client_id", "a"), ("groups", ["b", "c"]), ("groups", ["b", "c"])], ascii_only=True)
def test_what_the_compiled_decoder_accepts_means_the_same_to_the_schema(
    members: list[tuple[str, object]], ascii_only: bool
) -> None:
    raw = spelled(members, ascii_only).encode("utf-8", "surrogatepass")
    plain = fast_check(raw)
    if plain is not None:
        assert plain == by_schema(raw)


@given(items=st.lists(MEMBERS, max_size=4), flags=FLAGS)
@example(items=[[("client_id", "a")]], flags=[("together", True), ("headers", False)])
@example(items=[[("client_id", "a")]], flags=[("together", True), ("together", True)])
def test_the_same_holds_for_batches(items: list[list[tuple[str, object]]], flags: list[tuple[str, object]]) -> None:
    checks = ",".join(spelled(item, True) for item in items)
    rest = spelled(flags, True)[1:]
    raw = f'{{"checks": [{checks}]{"," if flags else ""}{rest}'.encode()
    plain = fast_batch(raw)
    if plain is not None:
        assert plain == batch_by_schema(raw)


@given(raw=st.binary(max_size=40) | st.text('{}[]":,client_id0.1eE+-\\u ', max_size=40).map(str.encode))
def test_no_bytes_mean_different_things(raw: bytes) -> None:
    plain = fast_check(raw)
    if plain is not None:
        assert plain == by_schema(raw)


@pytest.mark.parametrize(
    "body",
    [
        '{"client_id": "a"}',
        ' {"cost": 3, "client_id": "user_123", "limit_key": "login"} ',
        '{"client_id": "é", "cost": 0}',
        '{"client_id":"a","limit_key":"global","cost":1}',
        '{"client_id":"a","request_id":"r-1"}',
        '{"client_id":"a","groups":[]}',
        '{"groups":["org:7","plan:free"],"client_id":"a"}',
        '{"client_id":"a","groups":["é","b"]}',
        json.dumps({"client_id": "a", "groups": [f"{place}{'x' * 127}" for place in range(8)]}),
    ],
)
def test_plain_checks_need_no_schema(body: str) -> None:
    raw = body.encode()
    assert fast_check(raw) == by_schema(raw) == decode_check(raw)
    for flags in (b"", b',"together":true', b',"headers":true,"together":false'):
        batch = b'{"checks": [' + raw + b"," + raw + b"]" + flags + b"}"
        assert fast_batch(batch) == batch_by_schema(batch) == decode_batch(batch)


def test_the_schema_accepts_what_the_decoder_leaves_to_it() -> None:
    for body in ('{"client_id": "\\u0061"}', '{"client_id": "a\u2028"}'):
        assert fast_check(body.encode()) is None
        assert decode_check(body.encode()).client_id[0] == "a"


@pytest.mark.parametrize(
    ("groups", "told"),
    [
        ([str(place) for place in range(9)], "Length must be between 0 and 8."),
        (["a", "b", "a"], "one is given more than once"),
        (["a\nb"], "Control characters"),
        (["a\x7f"], "Control characters"),
        ([""], "Length must be between 1 and 128."),
        (["x" * 129], "Length must be between 1 and 128."),
        ([7], "Not a valid string."),
        ("org:7", "Not a valid list."),
        (None, "may not be null"),
    ],
)
def test_groups_that_are_none_are_refused_with_the_bound(groups: object, told: str) -> None:
    body = json.dumps({"client_id": "a", "groups": groups}).encode()
    for decode, raw in ((decode_check, body), (decode_batch, b'{"checks": [' + body + b"]}")):
        with pytest.raises(Problem) as refused:
            decode(raw)
        assert (refused.value.status, told in json.dumps(refused.value.errors)) == (422, True), refused.value.errors
        assert "groups" in json.dumps(refused.value.errors)


@pytest.mark.parametrize("flag", ["together", "headers"])
def test_flags_of_a_batch_are_true_or_false(flag: str) -> None:
    for value in ("1", '"true"', "null", "[]"):
        with pytest.raises(Problem) as refused:
            decode_batch(f'{{"checks": [{{"client_id": "a"}}], "{flag}": {value}}}'.encode())
        assert list(refused.value.errors or ()) == [flag]
