"""What is taken for a plain rule is just what the schema makes of it, and no rule that it refuses is plain."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from marshmallow import ValidationError

from app.api.admin.import_export.fast_decoding import fast_rule
from app.api.admin.rules.rule_json import rule_from
from app.api.admin.rules.schemas import RuleSchema
from app.api.schemas import Repeating
from app.rules.rule import ACTIONS, ALGORITHMS, FAIL_MODES, Rule
from tests.support.examples import examples

SCHEMA = RuleSchema()
LIMIT = {"rate": 5, "window": 60}
amounts = st.sampled_from([1, 5, 100_000, 100_001, 10**9])
odd = st.sampled_from(
    [None, 0, -1, 1.0, True, "5", 10**9 + 1, 10**30, [], {}, "", "x" * 1001, "\x7f", "\ud800", "a*b*c*d*e*f"]
)
limit_fields: dict[str, Any] = {
    "rate": amounts,
    "window": st.sampled_from([1, 60, 31_536_000, 31_536_001]),
    "algorithm": st.sampled_from([None, *ALGORITHMS, "none"]),
    "burst": st.none() | amounts,
}
limits = st.fixed_dictionaries({}, optional=limit_fields | {"x": odd})
rules = st.fixed_dictionaries(
    {},
    optional=limit_fields
    | {
        "client_id": st.sampled_from(["a", "*", "a*b", "é", "a*b*c*d*e*f", "x" * 257]) | odd,
        "group": st.sampled_from(["g", "*", "org:*", "a*b*c*d*e*f", "x" * 129]) | odd,
        "layer": st.sampled_from(["default", "org", "Org", "l" * 33, "org\n"]) | odd,
        "shared": st.booleans() | odd,
        "endpoint": st.sampled_from([None, "login", "x" * 129]) | odd,
        "limits": st.lists(limits, max_size=9) | odd,
        "action": st.sampled_from([*ACTIONS, "deny"]) | odd,
        "fail_mode": st.sampled_from([None, *FAIL_MODES]) | odd,
        "shadow": st.booleans() | odd,
        "enabled": st.booleans() | odd,
        "description": st.sampled_from(["", "what", "x" * 1001]) | odd,
        "id": st.just(5),
        "other": odd,
    },
)


def _rule(loaded: dict[str, Any]) -> Rule:
    return rule_from(loaded, tenant_id=1, default_algorithm="gcra")


@settings(deadline=None, max_examples=examples(600))
@given(
    sent=rules
    | odd
    | st.builds(lambda name: {"client_id": "a", name: 5} | LIMIT, st.sampled_from(sorted(limit_fields)))
)
def test_a_plain_rule_is_what_the_schema_makes_of_it(sent: Any) -> None:
    plain = fast_rule(sent)
    if plain is not None:
        assert _rule(plain) == _rule(SCHEMA.load(sent))
        return
    try:
        _rule(SCHEMA.load(sent))
    except ValidationError:
        return


@pytest.mark.parametrize(
    "sent",
    [
        {"client_id": "a"} | LIMIT,
        {"client_id": None, "group": "org:*", "layer": "org", "shared": True} | LIMIT,
        {"client_id": "a", "endpoint": None, "limits": [LIMIT, LIMIT | {"algorithm": "gcra", "burst": 9}]},
        {
            "client_id": "a*",
            "action": "block",
            "shadow": True,
            "enabled": False,
            "fail_mode": "closed",
            "description": "é",
        },
    ],
    ids=str,
)
def test_what_export_writes_is_plain(sent: dict[str, Any]) -> None:
    plain = fast_rule(sent)
    assert plain is not None
    assert _rule(plain) == _rule(SCHEMA.load(sent))


@pytest.mark.parametrize(
    "sent",
    [
        Repeating({"client_id": "a"} | LIMIT, "rate"),
        {"client_id": "a", "limits": [Repeating(LIMIT, "rate")]},
        {"client_id": "a", "limits": [LIMIT]} | LIMIT,
        {"client_id": "a", "rate": 10**9, "window": 31_536_000},
        {"client_id": "a", "algorithm": "fixed_window", "burst": 5} | LIMIT,
        {"client_id": "a"},
        {"client_id": "a", "limits": []},
        {"client_id": "a\n"} | LIMIT,
        {"client_id": "*a*b*c*d*"} | LIMIT,
        {"client_id": "ip:10.0.0.1/8"} | LIMIT,
    ],
    ids=str,
)
def test_what_only_the_schema_can_judge_is_left_to_it(sent: Any) -> None:
    assert fast_rule(sent) is None
