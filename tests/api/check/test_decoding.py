"""The compiled decoder and the schemas agree on what is valid, and on what it means."""

from __future__ import annotations

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from app.api.check.decoding import _valid, decode_batch, decode_check
from app.api.check.fast_decoding import fast_batch, fast_check
from app.api.check.schemas import BatchSchema, CheckSchema
from app.api.problems import Problem
from app.api.strict_json import parsed
from app.limiter.decision import Check

NAMES = st.sampled_from(["client_id", "limit_key", "cost", "request_id", "checks", "other"])
TEXTS = st.text(max_size=6) | st.sampled_from(["client_id", "a", "", "global", "\x7f", "\u2028", "é", '"', "x" * 257])
VALUES = TEXTS | st.integers(-2, 3) | st.integers(10**9 - 1, 10**9 + 1) | st.floats() | st.booleans() | st.none()
MEMBERS = st.lists(st.tuples(NAMES, VALUES), max_size=5)


def spelled(members: list[tuple[str, object]], ascii_only: bool) -> str:
    """JSON text with members in this order, repeated ones too."""
    parts = [f"{json.dumps(name)}: {json.dumps(value, ensure_ascii=ascii_only)}" for name, value in members]
    return "{" + ",".join(parts) + "}"


def by_schema(raw: bytes) -> Check | None:
    try:
        return Check(**_valid(CheckSchema(), parsed(raw)))
    except Problem:
        return None


def batch_by_schema(raw: bytes) -> list[Check] | None:
    try:
        return [Check(**item) for item in _valid(BatchSchema(), parsed(raw))["checks"]]
    except Problem:
        return None


@given(members=MEMBERS, ascii_only=st.booleans())
@example(members=[("client_id", "a"), ("client_id", "a")], ascii_only=True)
@example(members=[("client_id", "a"), ("cost", 1), ("cost", 1)], ascii_only=True)
@example(members=[("client_id", "client_id"), ("limit_key", "global")], ascii_only=True)
def test_what_the_compiled_decoder_accepts_means_the_same_to_the_schema(
    members: list[tuple[str, object]], ascii_only: bool
) -> None:
    raw = spelled(members, ascii_only).encode("utf-8", "surrogatepass")
    plain = fast_check(raw)
    if plain is not None:
        assert plain == by_schema(raw)


@given(items=st.lists(MEMBERS, max_size=4))
def test_the_same_holds_for_batches(items: list[list[tuple[str, object]]]) -> None:
    raw = ('{"checks": [' + ",".join(spelled(item, True) for item in items) + "]}").encode()
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
    ],
)
def test_plain_checks_need_no_schema(body: str) -> None:
    raw = body.encode()
    assert fast_check(raw) == by_schema(raw) == decode_check(raw)
    batch = b'{"checks": [' + raw + b"," + raw + b"]}"
    assert fast_batch(batch) == batch_by_schema(batch) == decode_batch(batch)


def test_the_schema_accepts_what_the_decoder_leaves_to_it() -> None:
    for body in ('{"client_id": "\\u0061"}', '{"client_id": "a\u2028"}'):
        assert fast_check(body.encode()) is None
        assert decode_check(body.encode()).client_id[0] == "a"
