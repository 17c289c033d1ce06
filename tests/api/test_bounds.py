"""However large, deep or finely cut a request is: it costs the worker little, and its refusal is short."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
from typing import Any

import pytest

from app.api.error_messages import MAX_ERRORS, flat
from tests.api.raw_http import JSON, exchange, post, request, statuses
from tests.support.node import ADMIN_KEY, Node
from tests.support.pace import slowness
from tests.support.processes import cpu_seconds

KEY = f"X-API-Key: {ADMIN_KEY}\r\n".encode()
CHUNKED = b"Transfer-Encoding: chunked\r\n"
SETTINGS = {"FAST_LANE": "false"}
BATCH, RULES, IMPORT = "/v1/check/batch", "/v1/admin/rules", "/v1/admin/import?dry_run=true"
LONGEST = 20_000  # bytes of an answer that refuses
# Of one request, with room for a slow and busy machine. Without bounds these took 0.5 to 13 seconds.
CPU_SECONDS = 0.45
CHUNKS_CPU_SECONDS = 1.0  # without bounds: 3 to 4


def listed(name: str, item: str, count: int, /, **before: Any) -> bytes:
    beginning = json.dumps(before)[1:-1]
    return f'{{{beginning + "," if before else ""}"{name}":[{",".join([item] * count)}]}}'.encode()


def unknown(count: int, letter: str = "x") -> str:
    return "{" + ",".join(f'"{letter}{number:x}":0' for number in range(count)) + "}"


HOSTILE = {
    "numbers for checks": (BATCH, listed("checks", "1", 130_000)),
    "empty checks": (BATCH, listed("checks", "{}", 87_000)),
    "lists for checks": (BATCH, listed("checks", "[]", 80_000)),
    "texts for checks": (BATCH, listed("checks", '""', 80_000)),
    "fractions for checks": (BATCH, listed("checks", "1e9", 65_000)),
    "too many checks": (BATCH, listed("checks", '{"client_id":"a"}', 14_000)),
    "invalid checks": (BATCH, listed("checks", '{"client_id":1}', 1000)),
    "checks of unknown members": (BATCH, listed("checks", unknown(30), 900)),
    "checks with one long name": (BATCH, listed("checks", json.dumps({"x" * 240: 1}), 1000)),
    "numbers beside the checks": (BATCH, listed("other", "1", 130_000)),
    "members": (BATCH, unknown(25_000).encode()),
    "a name of a quarter megabyte": (BATCH, json.dumps({"x" * 262_000: 1}).encode()),
    "members given twice": (BATCH, unknown(12_000)[:-1].encode() + b"," + unknown(12_000)[1:].encode()),
    "a batch cut off": (BATCH, listed("checks", "1", 130_000)[:-2]),
    "a check of unknown members": ("/v1/check", unknown(800).encode()),
    "a check of numbers": ("/v1/check", listed("client_id", "1", 4_000)),
    "limits": (RULES, listed("limits", "{}", 21_000, client_id="a")),
    "members of a rule": (RULES, unknown(6_000).encode()),
    "rules of a template": ("/v1/admin/templates", listed("rules", "{}", 21_000, name="a")),
    "limits in a template": ("/v1/admin/templates", listed("rules", listed("limits", "1", 500).decode(), 19, name="a")),
    "scopes": ("/v1/admin/api-keys", listed("scopes", "1", 8_000, name="a")),
    "a moment": ("/v1/admin/api-keys", json.dumps({"name": "a", "scopes": [], "expires_at": "2" * 16_000}).encode()),
    "a client": ("/v1/admin/counters/reset", unknown(1_500).encode()),
    "a lease": ("/v1/leases", unknown(800).encode()),
}


@pytest.mark.parametrize(("path", "body"), HOSTILE.values(), ids=HOSTILE)
def test_no_body_costs_much_or_is_answered_at_length(own_node: Node, path: str, body: bytes) -> None:
    before = cpu_of(own_node)
    answer = own_node.request("POST", path, data=body, headers={"Content-Type": "application/json"})
    assert cpu_of(own_node) - before < CPU_SECONDS * slowness()
    assert answer.status_code in (400, 422), answer.text[:200]
    assert len(answer.content) < LONGEST
    assert len(list(flat(answer.json().get("errors", {})))) <= MAX_ERRORS


def test_no_query_is_answered_at_length(own_node: Node) -> None:
    query = "&".join(f"{number:x}" for number in range(1200))
    answer = own_node.request("GET", f"{RULES}?{query}")
    assert (answer.status_code, len(answer.content) < LONGEST) == (422, True)
    assert len(list(flat(answer.json()["errors"]))) == MAX_ERRORS


def test_an_invalid_file_is_told_a_hundred_errors_and_that_there_are_more(own_node: Node) -> None:
    answer = own_node.request("POST", IMPORT, json={"rules": [{"client_id": "a"}] * 10_000})
    assert (answer.status_code, len(answer.content) < LONGEST) == (422, True)
    assert len(list(flat(answer.json()["errors"]))) == MAX_ERRORS
    assert "and at least 100 more" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("line", "status"),
    [
        ("GET /livez", 400),
        ("POST /nothing", 400),
        ("POST /v1/check", 411),
        ("POST /v1/admin/import", 400),
        ("POST /v1/authorize", 200),
    ],
)
def test_a_million_chunks_cost_little(own_node: Node, line: str, status: int) -> None:
    before = cpu_of(own_node)
    sent = request(line, JSON, KEY, CHUNKED, body=b"1\r\nx\r\n" * 1_000_000 + b"0\r\n\r\n")
    assert statuses(exchange(own_node.port, sent).raw) == [status]
    assert cpu_of(own_node) - before < CHUNKS_CPU_SECONDS * slowness()


def test_a_body_that_came_while_the_worker_stood_still_is_read(own_node: Node) -> None:
    """Its two seconds are over when the worker goes on, but it lies in the socket."""
    body = b'{"client_id":"late","cost":0}'
    [worker] = own_node.workers
    with socket.create_connection(("127.0.0.1", own_node.port), timeout=20) as connection:
        connection.sendall(post("/v1/check", body[:5], length=len(body)))
        assert own_node.request("GET", "/livez").status_code == 200  # by now it waits for the rest
        os.kill(worker, signal.SIGSTOP)
        try:
            connection.sendall(body[5:])
            assert select.select([connection], [], [], 2.2)[0] == []
        finally:
            os.kill(worker, signal.SIGCONT)
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("framing", [CHUNKED, b"Content-Length: 1000000\r\n"], ids=["chunks", "a length"])
def test_a_body_that_keeps_coming_ends_after_two_seconds(own_node: Node, framing: bytes) -> None:
    chunked = framing is CHUNKED
    with socket.create_connection(("127.0.0.1", own_node.port), timeout=20) as connection:
        connection.sendall(request("POST /v1/admin/import", JSON, KEY, framing))
        for _ in range(1000):
            connection.sendall(b"1\r\n \r\n" if chunked else b" ")
            if select.select([connection], [], [], 0.02)[0]:
                break
        assert connection.recv(65536).startswith(b"HTTP/1.1 408 ")


def cpu_of(node: Node) -> float:
    return sum(map(cpu_seconds, node.workers))
