"""Whatever comes in: never a 5xx, never a trace in the log, never a charge for what was refused.

Hypothesis derives its examples from the tests themselves, so that a run repeats the one before.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.rules.rule import ALGORITHMS
from tests.api.conftest import PutRules
from tests.api.raw_http import CLOSE, HOST, JSON, exchange, statuses
from tests.support.examples import examples
from tests.support.node import ADMIN_KEY, Node

CLIENT = "fuzz-client"
PLENTY = 100_000
FUZZ = settings(
    max_examples=examples(250),
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)

names = st.sampled_from(["client_id", "limit_key", "cost", "request_id", "checks", "rate", "", "\ud800"]) | st.text()
numbers = (
    st.integers(-2, 12) | st.sampled_from([10**9, 10**9 + 1, 2**53, 2**63, 2**64, -(2**31), 10**400]) | st.floats()
)
texts = st.text(max_size=8) | st.sampled_from(
    ["\x00", "\ud800", "🦊", "*", "x" * 257, "\u2028", "__proto__", "' OR 1=1"]
)
scalars = st.none() | st.booleans() | numbers | texts
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3), max_leaves=6
)


def mostly(good: st.SearchStrategy[Any], other: st.SearchStrategy[Any] = values) -> st.SearchStrategy[Any]:
    """Good ones more often than not, so that single mistakes among right things are tried too."""
    return st.integers(0, 9).flatmap(lambda number: other if number == 9 else good)


checks = mostly(
    st.fixed_dictionaries(
        {"client_id": mostly(st.just(CLIENT))},
        optional={
            "limit_key": mostly(st.sampled_from(["a", "b"])),
            "cost": mostly(st.integers(0, 3)),
            "request_id": mostly(st.sampled_from(["r1", "r2"])),
        },
    ),
    st.dictionaries(names, values, max_size=3).map({"client_id": CLIENT}.__or__),
)
amounts = mostly(st.integers(1, 50))
algorithms = mostly(st.sampled_from([*ALGORITHMS, None]))
limits = mostly(
    st.fixed_dictionaries({"rate": amounts, "window": amounts}, optional={"algorithm": algorithms, "burst": amounts})
)
about_a_rule = {
    "endpoint": mostly(st.sampled_from(["a", "é", None]), texts),
    "action": mostly(st.sampled_from(["limit", "allow", "block"])),
    "fail_mode": mostly(st.sampled_from(["open", "closed", "local", None])),
    "shadow": mostly(st.booleans()),
    "enabled": mostly(st.booleans()),
    "description": texts,
}
rule_clients = mostly(st.sampled_from(["fuzz-rule", "fuzz-*", "*-fuzz-*"]))
rules = st.fixed_dictionaries(
    {"client_id": rule_clients, "rate": amounts, "window": amounts},
    optional={"algorithm": algorithms, "burst": amounts} | about_a_rule,
) | st.fixed_dictionaries(
    {"client_id": rule_clients, "limits": mostly(st.lists(limits, min_size=1, max_size=9))}, optional=about_a_rule
)


@st.composite
def torn(draw: st.DrawFn, whole: st.SearchStrategy[bytes]) -> bytes:
    """Bytes with a piece cut out, doubled or replaced."""
    text = draw(whole)
    start = draw(st.integers(0, len(text)))
    end = draw(st.integers(start, min(len(text), start + 20)))
    piece = draw(st.sampled_from([b"", text[start:end] * 2, b"\x00", b'"', b"\r\n", b"\xff"]) | st.binary(max_size=6))
    return text[:start] + piece + text[end:]


def _encoded(value: Any) -> bytes:
    """As JSON with NaN, Infinity and lone surrogates, as a careless caller would send them."""
    return json.dumps(value).encode()


def _post(node: Node, path: str, body: bytes) -> requests.Response:
    return node.request("POST", path, data=body, headers={"Content-Type": "application/json"})


def _left(node: Node) -> int:
    left: int = node.check(CLIENT, cost=0)["remaining"]
    return left


def _cost(check: Any, decision: Any) -> int:
    charged = check["client_id"] == CLIENT and decision["allowed"]
    cost: int = check.get("cost", 1) if charged else 0
    return cost


@pytest.fixture(scope="module", autouse=True)
def plenty(put_rules: PutRules) -> None:
    """The client of the valid examples, with a quota that does not come back meanwhile."""
    put_rules({"client_id": CLIENT, "rate": PLENTY, "window": 86_400, "algorithm": "fixed_window"})


@pytest.fixture(autouse=True)
def no_trace_in_the_log(node: Node) -> Iterator[None]:
    before = len(node.log.read_text())
    yield
    log = node.log.read_text()[before:]
    assert "Traceback" not in log, log


@given(body=mostly(checks.map(_encoded), torn(checks.map(_encoded)) | values.map(_encoded) | st.binary(max_size=40)))
@FUZZ
def test_a_check_is_charged_exactly_when_it_is_answered(node: Node, body: bytes) -> None:
    before = _left(node)
    answer = _post(node, "/v1/check", body)
    used = before - _left(node)
    assert answer.status_code in (200, 400, 409, 413, 422), answer.text
    if answer.status_code != 200:
        assert used == 0
        return
    check = json.loads(body)
    expected = _cost(check, answer.json())
    assert used == expected or ("request_id" in check and used == 0)


@given(items=st.lists(checks, min_size=1, max_size=4))
@FUZZ
def test_a_batch_is_charged_exactly_when_it_is_answered(node: Node, items: list[Any]) -> None:
    before = _left(node)
    answer = _post(node, "/v1/check/batch", _encoded({"checks": items}))
    used = before - _left(node)
    assert answer.status_code in (200, 400, 413, 422), answer.text
    if answer.status_code != 200:
        assert used == 0
        return
    results = answer.json()["results"]
    assert len(results) == len(items)
    pairs = [pair for pair in zip(items, results, strict=True) if "error" not in pair[1]]
    most = sum(_cost(*pair) for pair in pairs)
    least = sum(_cost(*pair) for pair in pairs if "request_id" not in pair[0])
    assert least <= used <= most


@given(body=mostly(rules.map(_encoded), torn(rules.map(_encoded)) | values.map(_encoded) | st.binary(max_size=40)))
@settings(FUZZ, max_examples=examples(100))  # each that is stored is two transactions
def test_a_rule_is_stored_as_it_is_answered_or_refused(node: Node, body: bytes) -> None:
    answer = _post(node, "/v1/admin/rules", body)
    assert answer.status_code in (200, 201, 400, 422), answer.text
    if answer.status_code in (200, 201):
        path = f"/v1/admin/rules/{answer.json()['id']}"
        assert node.request("GET", path).json() == answer.json()
        assert node.request("DELETE", path).status_code == 204


methods = mostly(
    st.sampled_from(["GET", "POST"]),
    st.sampled_from(["PUT", "HEAD", "OPTIONS", "CONNECT", "TRACE", "PRI", "post", "X" * 30, ""]),
)
targets = st.sampled_from(
    [
        "/v1/check",
        "/v1/check/batch",
        "/v1/check?x=%00",
        "//v1//check",
        "/v1/admin/rules",
        "/v1/admin/rules/1",
        "/v1/admin/rules?client_id=%ed%a0%80",
        "/rules",
        "/health",
        "/metrics",
        "http://x/livez",
        "/%ff",
        "/../",
        "x:1",
        "*",
        "",
    ]
)
versions = mostly(st.just("HTTP/1.1"), st.sampled_from(["HTTP/1.0", "HTTP/0.9", "HTTP/2.0", "http/1.1", ""]))
header_lines = st.sampled_from(
    [
        HOST,
        JSON,
        CLOSE,
        b"Content-Length: 5\r\n",
        b"Content-Length: 50\r\n",
        b"Content-Length: -1\r\n",
        b"Content-Length: 1, 1\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: gzip, chunked\r\n",
        b"Transfer-Encoding: x\r\n",
        b"Connection: upgrade\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n",
        b"Expect: 100-continue\r\n",
        b"Expect: 200-ok\r\n",
        f"Authorization: Bearer {ADMIN_KEY}\r\n".encode(),
        b"Authorization: \xff\xfe\r\n",
        b"X-API-Key:\r\n",
        b"X-Correlation-ID: \x7f\r\n",
        b"X-Forwarded-Proto: https\r\nX-Forwarded-Ssl: off\r\n",
        b"SCRIPT_NAME: /x\r\nPATH_INFO: /y\r\n",
        b"Accept: application/openmetrics-text; version=1.0.0\r\n",
        b"Accept-Encoding: gzip\r\n",
        b" folded\r\n",
        b"no colon\r\n",
    ]
)
bodies = st.sampled_from(
    [
        b"",
        b"{}",
        b'{"client_id":"%s"}' % CLIENT.encode(),
        b"5\r\nhello\r\n0\r\n\r\n",
        b"0\r\nHost: x\r\n\r\n",
        b"fffffffffffffff\r\n",
        b"-1\r\n\r\n",
    ]
)


@st.composite
def requests_as_bytes(draw: st.DrawFn) -> bytes:
    line = " ".join((draw(methods), draw(targets), draw(versions))).encode()
    body = draw(bodies)
    usual = [HOST, JSON, draw(mostly(st.just(b"Content-Length: %d\r\n" % len(body)), st.just(b"")))]
    headers = draw(mostly(st.just(usual), st.just([]))) + draw(st.lists(header_lines, max_size=2))
    return line + b"\r\n" + b"".join(headers) + b"\r\n" + body


@given(sent=mostly(requests_as_bytes(), torn(requests_as_bytes()) | st.binary(max_size=60)))
@FUZZ
def test_no_bytes_are_answered_with_a_5xx_or_with_silence(node: Node, sent: bytes) -> None:
    """The connection ends, answered or not: whatever was announced, no more bytes will come."""
    before = _left(node)
    try:
        answered = statuses(exchange(node.port, sent, end=True).raw)
    except ConnectionError:  # the server was done before all was sent
        answered = []
    assert all(status < 500 for status in answered), (sent, answered)
    if 200 not in answered:
        assert _left(node) == before
