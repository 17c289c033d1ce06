"""What a check may not be: each bad body with the status it gets, and that no refusal charges anything."""

from __future__ import annotations

import json
from typing import Any

import pytest
import requests

from tests.api.raw_http import problem_of
from tests.support.node import Node

ID = "strict-input"
GOOD: dict[str, Any] = {"client_id": ID, "limit_key": "key", "cost": 1, "request_id": "r-1"}
JSON = {"Content-Type": "application/json"}
FIELDS = f'"client_id":"{ID}"'


def _with(**fields: Any) -> str:
    return json.dumps(GOOD | fields)


def _raw(name: str, literal: str) -> str:
    """A check with a member as JSON text, which no Python value would print as."""
    return json.dumps({key: value for key, value in GOOD.items() if key != name})[:-1] + f', "{name}": {literal}}}'


NOT_JSON: dict[str, str | bytes] = {
    "nothing": "",
    "white space": " \r\n\t",
    "half": json.dumps(GOOD)[:-1],
    "two values": json.dumps(GOOD) * 2,
    "a word": ID,
    "single quotes": str(GOOD),
    "a trailing comma": _with()[:-1] + ",}",
    "a comment": _with() + "// no",
    "a form": f"client_id={ID}&cost=1",
    "NaN": _raw("cost", "NaN"),
    "Infinity": _raw("cost", "Infinity"),
    "-Infinity": _raw("cost", "-Infinity"),
    "a leading zero": _raw("cost", "01"),
    "a plus": _raw("cost", "+1"),
    "hexadecimal": _raw("cost", "0x1"),
    "a raw control character": f'{{{FIELDS},"limit_key":"a\x01"}}',
    "a raw line break": f'{{{FIELDS},"limit_key":"a\n"}}',
    "a raw NUL": f'{{{FIELDS},"limit_key":"a\x00"}}',
    "a NUL after it": _with() + "\x00",
    "a byte order mark": b"\xef\xbb\xbf" + _with().encode(),
    "UTF-16": _with().encode("utf-16"),
    "UTF-16 without mark": _with().encode("utf-16-le"),
    "UTF-32": _with().encode("utf-32"),
    "Latin-1": f'{{{FIELDS},"limit_key":"é"}}'.encode("latin-1"),
    "a raw lone surrogate": f'{{{FIELDS},"limit_key":"'.encode() + b'\xed\xa0\x80"}',
    "an overlong encoding": f'{{{FIELDS},"limit_key":"'.encode() + b'\xc0\xaf"}',
    "a broken escape": _raw("limit_key", r'"\x41"'),
    "half an escape": _raw("limit_key", r'"\u00"'),
    "compressed": b"\x1f\x8b\x08\x00\x00\x00\x00\x00",
}
NOT_VALID: dict[str, str] = {
    "an array": f"[{_with()}]",
    "a string": f'"{ID}"',
    "a number": "1",
    "true": "true",
    "null": "null",
    "no members": "{}",
    "no client": json.dumps({"limit_key": "key"}),
    "an unknown member": _with(colour="red"),
    "a tenant": _with(tenant="other"),
    "a tenant by number": _with(tenant_id=2),
    "another case": _with(Client_Id="x"),
    "the same client twice": _raw("limit_key", f'"key", {FIELDS}, {FIELDS}'),
    "the same cost twice": _raw("cost", '1, "cost": 1'),
    "two costs": _raw("cost", '0, "cost": 1'),
    "a name twice by an escape": _raw("cost", r'0, "co\u0073t": 1'),
    "an unknown member twice": _raw("x", '1, "x": 1'),
    "a client that is null": _with(client_id=None),
    "a client that is a number": _with(client_id=7),
    "a client that is true": _with(client_id=True),
    "a client that is an array": _with(client_id=[ID]),
    "a client that is an object": _with(client_id={"client_id": ID}),
    "an empty client": _with(client_id=""),
    "a client of 257": _with(client_id="c" * 257),
    "a client of 257 foxes": _with(client_id="🦊" * 257),
    "a client with NUL": _with(client_id="a\x00b"),
    "a client with a line break": _with(client_id="a\nb"),
    "a client with a tab": _with(client_id="a\tb"),
    "a client with DEL": _with(client_id="a\x7f"),
    "a client with a C1 control": _with(client_id="a\x85"),
    "a client with half a pair": _raw("client_id", r'"\ud800"'),
    "a client with the other half": _raw("client_id", r'"\udc00x"'),
    "a client with a pair reversed": _raw("client_id", r'"\udc00\ud800"'),
    "a key that is null": _with(limit_key=None),
    "a key that is a number": _with(limit_key=1),
    "an empty key": _with(limit_key=""),
    "a key of 129": _with(limit_key="k" * 129),
    "a key with NUL": _with(limit_key="\x00"),
    "a key with ESC": _with(limit_key="\x1b[2J"),
    "a key with half a pair": _raw("limit_key", r'"\uDFFF"'),
    "a cost that is null": _with(cost=None),
    "a cost that is true": _with(cost=True),
    "a cost that is false": _with(cost=False),
    "a cost that is text": _with(cost="1"),
    "a cost that is 1.0": _raw("cost", "1.0"),
    "a cost that is 1e0": _raw("cost", "1e0"),
    "a cost that is 0.5": _raw("cost", "0.5"),
    "a cost that is 1e999": _raw("cost", "1e999"),
    "a cost that is an array": _with(cost=[1]),
    "a cost below zero": _with(cost=-1),
    "a cost above its limit": _with(cost=1_000_000_001),
    "a cost of 64 bits": _with(cost=2**63),
    "a cost that wraps around": _with(cost=2**64 + 1),
    "a cost of 4000 digits": _raw("cost", "9" * 4000),
    "a request id that is null": _with(request_id=None),
    "a request id that is a number": _with(request_id=1),
    "an empty request id": _with(request_id=""),
    "a request id of 65": _with(request_id="r" * 65),
    "a request id with a space": _with(request_id="a b"),
    "a request id with a line break": _with(request_id="a\n"),
    "a request id with a colon": _with(request_id="a:b"),
    "a request id that is not ASCII": _with(request_id="ü"),
}
GOOD_BOUNDS: dict[str, dict[str, Any]] = {
    "a client of 1": {"client_id": "c"},
    "a client of 256": {"client_id": "c" * 256},
    "a client of 256 foxes": {"client_id": "🦊" * 256},
    "a client with a space": {"client_id": " a "},
    "a client of stars": {"client_id": "***"},
    "a client with a no-break space": {"client_id": "\u00a0"},
    "a key of 1": {"limit_key": "k"},
    "a key of 128": {"limit_key": "k" * 128},
    "a cost of 0": {"cost": 0},
    "the largest cost": {"cost": 1_000_000_000},
    "a request id of 1": {"request_id": "r", "cost": 0},
    "a request id of 64": {"request_id": "Az09._-" + "r" * 57, "cost": 0},
}


def _post(node: Node, body: str | bytes) -> requests.Response:
    data = body.encode("utf-8", "surrogatepass") if isinstance(body, str) else body
    return node.request("POST", "/v1/check", key=None, data=data, headers=JSON)


@pytest.fixture(autouse=True)
def nothing_is_charged(node: Node, request: pytest.FixtureRequest) -> Any:
    """The client of the refused bodies has its whole quota before and after each test."""
    yield
    assert node.check(ID, "key", cost=0)["remaining"] == 100


@pytest.mark.parametrize("body", NOT_JSON.values(), ids=NOT_JSON)
def test_what_is_no_json_is_400(node: Node, body: str | bytes) -> None:
    problem_of(_post(node, body), 400)


@pytest.mark.parametrize("body", NOT_VALID.values(), ids=NOT_VALID)
def test_json_that_is_no_valid_check_is_422(node: Node, body: str) -> None:
    assert problem_of(_post(node, body), 422)["errors"]


@pytest.mark.parametrize("number", ["9" * 5000, "-" + "9" * 5000], ids=["5000 digits", "-5000 digits"])
def test_an_integer_of_any_length_is_json_and_its_field_is_named(node: Node, number: str) -> None:
    bounds = ["Must be greater than or equal to 0 and less than or equal to 1000000000."]
    assert problem_of(_post(node, _raw("cost", number)), 422)["errors"] == {"cost": bounds}
    assert problem_of(_post(node, _raw("limit_key", number)), 422)["errors"].keys() == {"limit_key"}
    batch = f'{{"checks": [{_raw("cost", number)}]}}'
    answer = node.request("POST", "/v1/check/batch", key=None, data=batch, headers=JSON)
    assert problem_of(answer, 422)["errors"] == {"checks": {"0": {"cost": bounds}}}


@pytest.mark.parametrize("fields", GOOD_BOUNDS.values(), ids=GOOD_BOUNDS)
def test_the_bounds_themselves_are_accepted(node: Node, fields: dict[str, Any]) -> None:
    assert _post(node, json.dumps({"client_id": "strict-bounds"} | fields)).status_code == 200


def test_escapes_and_raw_characters_name_the_same_client(node: Node, client: str) -> None:
    node.check(client + "é🦊", cost=60)
    escaped = json.dumps({"client_id": client + "é🦊", "cost": 0}, ensure_ascii=True)
    raw = json.dumps({"client_id": client + "é🦊", "cost": 0}, ensure_ascii=False)
    assert [_post(node, body).json()["remaining"] for body in (escaped, raw)] == [40, 40]


@pytest.mark.parametrize("content_type", ["application/json", "Application/JSON", "application/json; charset=utf-8"])
def test_json_by_any_spelling_of_its_type(node: Node, content_type: str) -> None:
    headers = {"Content-Type": content_type}
    answer = node.request("POST", "/v1/check", key=None, data=b'{"client_id":"typed","cost":0}', headers=headers)
    assert answer.status_code == 200


@pytest.mark.parametrize(
    "content_type",
    ["text/plain", "application/x-www-form-urlencoded", "application/jsonp", "text/json", "application/problem+json"],
)
def test_any_other_type_is_415(node: Node, content_type: str) -> None:
    headers = {"Content-Type": content_type}
    problem_of(node.request("POST", "/v1/check", key=None, data=_with(), headers=headers), 415)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/check", "[" * 4000 + "]" * 4000),
        ("/v1/check", '{"a":' * 1300 + "1" + "}" * 1300),
        ("/v1/check", _raw("cost", "[" * 3000 + "]" * 3000)),
        ("/v1/check", "[" * 8000),
        ("/v1/check/batch", "[" * 100_000 + "]" * 100_000),
        ("/v1/check/batch", '{"checks":' + "[" * 100_000 + "]" * 100_000 + "}"),
        ("/v1/admin/rules", "[" * 30_000 + "]" * 30_000),
        ("/v1/admin/rules", '{"limits":' + "[" * 30_000 + "]" * 30_000 + "}"),
        ("/v1/admin/import", '{"rules":' + "[" * 500_000 + "]" * 500_000 + "}"),
    ],
)
def test_deep_nesting_is_refused(node: Node, path: str, body: str) -> None:
    """Too deep for the parser (400), or a value where another one belongs (422): that depends on the Python."""
    answer = node.request("POST", path, data=body, headers=JSON)
    problem_of(answer, answer.status_code)
    assert answer.status_code in (400, 422)


def test_an_object_of_thousands_of_members_is_refused_in_linear_time(node: Node) -> None:
    """A search for duplicates that compared each with each would take minutes here."""
    members = ",".join(f'"{number:x}":1' for number in range(25_000))
    body = f'{{"checks":[],{members},"checks":[]}}'
    problem_of(node.request("POST", "/v1/check/batch", key=None, data=body, headers=JSON), 422)
