"""What a rule may be: each bound of the contract, on both of its sides."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.api.raw_http import problem_of
from tests.support.node import Node

RULES = "/v1/admin/rules"
JSON = {"Content-Type": "application/json"}
MAX = 1_000_000_000
YEAR = 31_536_000
LIMIT = {"rate": 1, "window": 1}

# What is sent beside the client id; the field the refusal names.
REFUSED: list[tuple[dict[str, Any], str]] = [
    ({}, "rate"),
    ({"rate": 1}, "window"),
    ({"window": 1}, "rate"),
    ({"burst": 1}, "rate"),
    ({"algorithm": "gcra"}, "rate"),
    ({"action": "limit"}, "rate"),
    ({"rate": 0, "window": 1}, "rate"),
    ({"rate": -1, "window": 1}, "rate"),
    ({"rate": MAX + 1, "window": 1}, "rate"),
    ({"rate": 2**63, "window": 1}, "rate"),
    ({"rate": 1.0, "window": 1}, "rate"),
    ({"rate": 1.5, "window": 1}, "rate"),
    ({"rate": "1", "window": 1}, "rate"),
    ({"rate": True, "window": 1}, "rate"),
    ({"rate": None, "window": 1}, "rate"),
    ({"rate": [1], "window": 1}, "rate"),
    ({"rate": 1, "window": 0}, "window"),
    ({"rate": 1, "window": YEAR + 1}, "window"),
    ({"rate": 1, "window": 1.5}, "window"),
    ({"rate": 1, "window": "60"}, "window"),
    ({"rate": 1, "window": False}, "window"),
    ({"rate": MAX, "window": 10}, "rate"),
    ({"rate": 900_000_001, "window": 10}, "rate"),
    ({"rate": 286, "window": YEAR}, "rate"),
    ({"rate": 1, "window": YEAR, "burst": 286}, "burst"),
    ({"rate": 1, "window": 10, "burst": 900_000_001}, "burst"),
    ({"rate": 1, "window": 1, "burst": 0}, "burst"),
    ({"rate": 1, "window": 1, "burst": MAX + 1}, "burst"),
    ({"rate": 1, "window": 1, "burst": True}, "burst"),
    ({"rate": 1, "window": 1, "burst": 2, "algorithm": "fixed_window"}, "burst"),
    ({"rate": 1, "window": 1, "burst": 2, "algorithm": "sliding_window"}, "burst"),
    ({"rate": 1, "window": 1, "burst": 2, "algorithm": "sliding_window_counter"}, "burst"),
    ({"rate": 1, "window": 1, "algorithm": "leaky_bucket"}, "algorithm"),
    ({"rate": 1, "window": 1, "algorithm": "Token_Bucket"}, "algorithm"),
    ({"rate": 1, "window": 1, "algorithm": ""}, "algorithm"),
    ({"rate": 1, "window": 1, "algorithm": 1}, "algorithm"),
    ({"rate": 100_001, "window": 1, "algorithm": "sliding_window"}, "rate"),
    ({"limits": []}, "limits"),
    ({"limits": [LIMIT] * 9}, "limits"),
    ({"limits": LIMIT}, "limits"),
    ({"limits": None}, "limits"),
    ({"limits": [None]}, "limits"),
    ({"limits": [1]}, "limits"),
    ({"limits": [{"rate": 1}]}, "limits"),
    ({"limits": [{"window": 1}]}, "limits"),
    ({"limits": [LIMIT | {"burst": 0}]}, "limits"),
    ({"limits": [LIMIT | {"burst": 1, "algorithm": "fixed_window"}]}, "limits"),
    ({"limits": [LIMIT | {"colour": "red"}]}, "limits"),
    ({"limits": [LIMIT, {"rate": 100_001, "window": 1, "algorithm": "sliding_window"}]}, "limits"),
    ({"limits": [LIMIT, {"rate": 286, "window": YEAR}]}, "limits"),
    ({"limits": [LIMIT], "rate": 2}, "limits"),
    ({"limits": [LIMIT], "window": 2}, "limits"),
    ({"limits": [LIMIT], "burst": 1}, "limits"),
    ({"limits": [LIMIT], "algorithm": "gcra"}, "limits"),
    ({"limits": [LIMIT], **LIMIT, "rate": 2}, "limits"),
    (LIMIT | {"action": "deny"}, "action"),
    (LIMIT | {"action": None}, "action"),
    ({"action": "block", "rate": 1}, "window"),
    (LIMIT | {"fail_mode": "closd"}, "fail_mode"),
    (LIMIT | {"fail_mode": True}, "fail_mode"),
    (LIMIT | {"shadow": 1}, "shadow"),
    (LIMIT | {"shadow": "true"}, "shadow"),
    (LIMIT | {"shadow": None}, "shadow"),
    (LIMIT | {"shadow": []}, "shadow"),
    (LIMIT | {"enabled": 0}, "enabled"),
    (LIMIT | {"enabled": "no"}, "enabled"),
    (LIMIT | {"endpoint": ""}, "endpoint"),
    (LIMIT | {"endpoint": "e" * 129}, "endpoint"),
    (LIMIT | {"endpoint": 1}, "endpoint"),
    (LIMIT | {"endpoint": "a\nb"}, "endpoint"),
    (LIMIT | {"endpoint": "a\x00"}, "endpoint"),
    (LIMIT | {"description": "a\x00"}, "description"),
    (LIMIT | {"description": None}, "description"),
    (LIMIT | {"client_id": None}, "client_id"),
    (LIMIT | {"client_id": ""}, "client_id"),
    (LIMIT | {"client_id": 1}, "client_id"),
    (LIMIT | {"client_id": "c" * 257}, "client_id"),
    (LIMIT | {"client_id": "a\x7f"}, "client_id"),
    (LIMIT | {"client_id": "\ud800"}, "client_id"),
    (LIMIT | {"client_id": "a*b*c*d*e*"}, "client_id"),
    (LIMIT | {"tenant": "other"}, "tenant"),
    (LIMIT | {"tenant_id": 1}, "tenant_id"),
    (LIMIT | {"colour": "red"}, "colour"),
]

ACCEPTED: list[dict[str, Any]] = [
    {"rate": 1, "window": 1},
    {"rate": MAX, "window": 9},
    {"rate": 900_000_000, "window": 10},
    {"rate": 285, "window": YEAR},
    {"rate": 1, "window": YEAR, "burst": 285},
    {"rate": 1, "window": 9, "burst": MAX},
    {"rate": 2, "window": 1, "burst": 1},
    {"rate": 1, "window": 1, "burst": None, "algorithm": None, "endpoint": None, "fail_mode": None},
    {"rate": 1, "window": 1, "burst": 2, "algorithm": "token_bucket"},
    {"rate": 1, "window": 1, "burst": 2, "algorithm": "gcra"},
    {"rate": 100_000, "window": 1, "algorithm": "sliding_window"},
    {"rate": 100_001, "window": 1, "algorithm": "sliding_window_counter"},
    {"rate": MAX, "window": 1, "algorithm": "fixed_window"},
    {"limits": [LIMIT]},
    {"limits": [LIMIT] * 8},
    {"limits": [LIMIT], **LIMIT},
    {"limits": [LIMIT | {"algorithm": "gcra", "burst": 5}, LIMIT | {"algorithm": None, "burst": None}]},
    {"action": "allow"},
    {"action": "block"},
    {"action": "block", **LIMIT},
    LIMIT | {"endpoint": "e" * 128},
    LIMIT | {"description": "d" * 1000},
    *(LIMIT | {"fail_mode": mode} for mode in ("open", "closed", "local")),
]


@pytest.mark.parametrize(("fields", "named"), REFUSED, ids=lambda value: str(value)[:70].encode("ascii", "replace"))
def test_a_rule_beyond_a_bound_is_422_and_names_the_field(
    node: Node, client: str, fields: dict[str, Any], named: str
) -> None:
    answer = node.request("POST", RULES, json={"client_id": client} | fields)
    assert named in problem_of(answer, 422)["errors"]
    assert node.request("GET", RULES, params={"client_id": client}).json() == []


@pytest.mark.parametrize("fields", ACCEPTED, ids=lambda fields: str(fields)[:70])
def test_a_rule_at_a_bound_is_stored(node: Node, client: str, fields: dict[str, Any]) -> None:
    answer = node.request("POST", RULES, json={"client_id": client} | fields)
    assert answer.status_code == 201, answer.text
    assert node.request("DELETE", f"{RULES}/{answer.json()['id']}").status_code == 204


def test_a_client_id_may_be_as_long_as_a_checks(node: Node, client: str) -> None:
    answer = node.request("POST", RULES, json={"client_id": client.ljust(256, "*"), **LIMIT})
    assert answer.status_code == 201


@pytest.mark.parametrize("place", ["rate", "limits"])
def test_a_log_too_long_points_to_the_counter(node: Node, client: str, place: str) -> None:
    limit = {"rate": 100_001, "window": 60, "algorithm": "sliding_window"}
    rule = limit if place == "rate" else {"limits": [limit]}
    errors = problem_of(node.request("POST", RULES, json={"client_id": client} | rule), 422)["errors"]
    assert "sliding_window_counter" in json.dumps(errors[place])


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b'{"client_id":"x","rate":NaN,"window":1}', 400),
        (b'{"client_id":"x","rate":' + b"9" * 5000 + b',"window":1}', 422),
        (b'{"client_id":"x","rate":-' + b"9" * 5000 + b',"window":1}', 422),
        (b'{"client_id":"\xff","rate":1,"window":1}', 400),
        (b'\xef\xbb\xbf{"client_id":"x","rate":1,"window":1}', 400),
        ('{"client_id":"x","rate":1,"window":1}'.encode("utf-16"), 400),
        (b"[]", 422),
        (b"null", 422),
        (b'"x"', 422),
        (b'{"client_id":"x","rate":1,"rate":2,"window":1}', 422),
        (b'{"client_id":"x","limits":[{"rate":1,"window":1,"window":2}]}', 422),
        (b'{"client_id":"x","rate":1e0,"window":1}', 422),
        (b'{"client_id":"x","rate":1e999,"window":1}', 422),
        (b'{"client_id":"\\udc00","rate":1,"window":1}', 422),
    ],
)
def test_a_body_is_read_as_strictly_as_a_checks(node: Node, body: bytes, status: int) -> None:
    problem_of(node.request("POST", RULES, data=body, headers=JSON), status)
    assert node.request("GET", RULES, params={"client_id": "x"}).json() == []
