"""Bodies made to cost much: lists that are wrong throughout, chunks of one byte, nonsense in parts (rows 4 to 6)."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest

from tests.api.raw_http import CLOSE, JSON, RawAnswer, post, request, statuses
from tests.support.burden import answered, burden
from tests.support.matrix import ATTACKS, Figures
from tests.support.node import ADMIN_KEY, Node
from tests.support.pace import slowness

BATCH_BYTES, IMPORT_BYTES = 256 * 1024, 1024 * 1024  # what the contract allows there
KEY = f"X-API-Key: {ADMIN_KEY}\r\n".encode()
CHUNKED = b"Transfer-Encoding: chunked\r\n"
MANY = 1_000_000 if ATTACKS.whole else 200_000  # chunks: 8 s of a processor were they all read
ERRORS_TOLD = 100
SMALL_ANSWER = 64 * 1024
LITTLE = 1.4  # seconds of a processor, with what 8 others ask meanwhile


def full_of(item: bytes, before: bytes, size: int) -> bytes:
    """A list of so many of the item that the body is just allowed."""
    room = (size - len(before) - 2) // (len(item) + 1)
    return before + b",".join([item] * room) + b"]}"


FLOODS = {
    "batch of 1": ("/v1/check/batch", full_of(b"1", b'{"checks":[', BATCH_BYTES)),
    "batch of {}": ("/v1/check/batch", full_of(b"{}", b'{"checks":[', BATCH_BYTES)),
    "batch of []": ("/v1/check/batch", full_of(b"[]", b'{"checks":[', BATCH_BYTES)),
    "unknown fields": (
        "/v1/check/batch",
        b'{"checks":[{"client_id":"x"}],' + b",".join(b'"%d":1' % n for n in range(20_000)) + b"}",
    ),
    "limits of a rule": ("/v1/admin/rules", full_of(b"{}", b'{"client_id":"x","limits":[', 16 * 1024)),
    "limits, 1 MiB": ("/v1/admin/rules", full_of(b"1", b'{"client_id":"x","limits":[', IMPORT_BYTES)),
    "scopes of a key": ("/v1/admin/api-keys", full_of(b'"x"', b'{"name":"x","scopes":[', IMPORT_BYTES)),
    "rules of an import": ("/v1/admin/import", full_of(b"1", b'{"rules":[', IMPORT_BYTES)),
    "limits in an import": (
        "/v1/admin/import",
        full_of(b"1", b'{"rules":[{"client_id":"x","limits":[', IMPORT_BYTES - 2),
    ),
}


@pytest.mark.parametrize("flood", FLOODS)
@pytest.mark.attack(4, "a list that is wrong throughout, as long as a body may be")
def test_a_list_that_is_wrong_throughout_costs_little(attacked: Node, measured: Figures, flood: str) -> None:
    """It is refused with a 4xx that tells at most 100 errors, at the cost of well under a second of a processor."""
    path, body = FLOODS[flood]
    body += b"]}" if flood == "limits in an import" else b""
    with burden(attacked) as load:
        raw = answered(attacked.port, post(path, body, KEY, CLOSE))
    answer = RawAnswer(raw)
    measured["body, bytes"], measured["status"], measured["answer, bytes"] = len(body), answer.status_code, len(raw)
    measured["CPU s"], measured["others' longest wait, ms"] = load.cpu_seconds, load.longest_ms
    assert 400 <= answer.status_code < 500
    assert len(raw) < SMALL_ANSWER
    assert answer.status_code == 413 or told(answer.json()) <= ERRORS_TOLD
    assert load.cpu_seconds < LITTLE * slowness()
    assert load.others.failed == 0


def told(errors: Any) -> int:
    """Messages in a problem document, however deep."""
    if isinstance(errors, dict):
        return sum(told(value) for value in errors.values())
    return sum(map(told, errors)) if isinstance(errors, list) else 1


CHUNKS = {
    "GET /livez": (b"", {400}),
    "POST /v1/nothing": (b"", {400, 404, 411}),
    "POST /v1/check": (JSON, {411}),
    "DELETE /v1/admin/rules/1": (KEY, {400}),
    "POST /v1/admin/rules": (JSON + KEY, {411}),
    "POST /v1/admin/import": (JSON + KEY, {400, 408, 413, 422}),
    "POST /v1/admin/import without a key": (JSON, {401}),
}


@pytest.mark.parametrize("line", CHUNKS)
@pytest.mark.attack(5, f"{MANY:,} chunks of one byte")
def test_chunks_of_one_byte_cost_little(attacked: Node, measured: Figures, line: str) -> None:
    """Nobody reads them but an import, and that for 2 s at most, while others are answered."""
    headers, allowed = CHUNKS[line]
    sent = request(line.removesuffix(" without a key"), headers, CHUNKED, body=b"1\r\nx\r\n" * MANY + b"0\r\n\r\n")
    with burden(attacked) as load:
        [status, *more] = statuses(answered(attacked.port, sent))
    measured["status"], measured["CPU s"] = status, load.cpu_seconds
    measured["others' longest wait, ms"] = load.longest_ms
    assert (status in allowed, more) == (True, []), status
    assert load.cpu_seconds < (4 if 408 in allowed else LITTLE) * slowness()
    assert load.others.failed == 0


BOMB = gzip.compress(b" " * 4_000_000)  # 4 KB


@pytest.mark.attack(5, "a compressed body of 4 KB that would be 4 MB")
def test_nobody_unpacks_a_body(attacked: Node, measured: Figures) -> None:
    """415, from checks and from imports, at no cost."""
    found = []
    with burden(attacked) as load:
        for path in ("/v1/check", "/v1/check/batch", "/v1/admin/rules", "/v1/admin/import"):
            sent = post(path, BOMB, KEY, b"Content-Encoding: gzip\r\n", CLOSE)
            found.append(RawAnswer(answered(attacked.port, sent)).status_code)
    measured["requests"], measured["answered 415"] = len(found), found.count(415)
    measured["CPU s"] = load.cpu_seconds
    assert set(found) == {415}
    assert load.cpu_seconds < LITTLE * slowness()


RATES: list[Any] = [0, -1, 1.5, "1", True, 10**30, [], {}]
NONSENSE: list[dict[str, Any]] = [
    *({"limits": limits} for limits in ([{"rate": 5}], [{}], [{"window": 5}], [], [None], [[]], {}, "x", 5)),
    *({"limits": [{"rate": rate, "window": 60}]} for rate in RATES),
    *({name: value} for name in ("rate", "window", "burst") for value in RATES if value != "1"),
    *({name: value} for name in ("client_id", "endpoint") for value in ("", 5, [], "a\0b", "x" * 5000)),
    *({"description": value} for value in (5, [], None, "x" * 5000)),
    *({"algorithm": value} for value in ("", "x", 5, [])),
    *({"action": value} for value in ("", None, "x", {})),
    *({"tenant": 2}, {"unknown": 1}, {"limits": [{"rate": 5, "window": 6, "x": 1}]}),
]


@pytest.mark.attack(6, f"{len(NONSENSE)} changes of a rule that leave out, contradict or misname")
def test_a_nonsensical_change_is_refused(attacked: Node, measured: Figures) -> None:
    """Each is a 4xx that names what is wrong, never a 500, and the rule stays as it was."""
    rule = attacked.put_rule(client_id="patched", rate=10, window=60)
    path = f"/v1/admin/rules/{rule['id']}"
    answers = [attacked.request("PATCH", path, json=change) for change in NONSENSE]
    measured["changes"], measured["5xx"] = len(answers), sum(answer.status_code >= 500 for answer in answers)
    accepted = [change for change, answer in zip(NONSENSE, answers, strict=True) if not 400 <= answer.status_code < 500]
    measured["accepted"] = len(accepted)
    assert accepted == []
    assert all(json.loads(answer.content)["errors"] for answer in answers if answer.status_code == 422)
    assert attacked.request("GET", path).json() == rule
