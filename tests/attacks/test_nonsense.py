"""A Redis that is none, or was taken over: it answers whatever it likes (row 18)."""

from __future__ import annotations

from collections.abc import Iterator
from struct import pack
from typing import Any

import pytest
import requests

from tests.support.matrix import ATTACKS, Figures
from tests.support.node import ADMIN_KEY, Node
from tests.support.nonsense import ENDLESS, Nonsense


def outcome(binding: int = 1, remaining: int = 5, wait_us: int = 0, reset_us: int = 1, now_us: int = 10**15) -> bytes:
    """What a script answers about one check."""
    return bulk(pack("<2I3q", binding, remaining, wait_us, reset_us, now_us))


def bulk(text: bytes) -> bytes:
    return b"$%d\r\n%b\r\n" % (len(text), text)


MODES = {
    "nothing": b"",
    "a status": b"+OK\r\n",
    "queued": b"+QUEUED\r\n",
    "an error": b"-ERR no\r\n",
    "an error of a megabyte": b"-ERR " + b"x" * 1_000_000 + b"\r\n",
    "a number": b":1\r\n",
    "null": b"$-1\r\n",
    "an empty text": bulk(b""),
    "7 bytes": bulk(b"x" * 7),
    "50 bytes": bulk(b"x" * 50),
    "every bit": bulk(b"\xff" * 32),
    "the ninth limit": outcome(binding=9),
    "the limit before the first": outcome(binding=0),
    "the beginning of time": outcome(now_us=0),
    "before time": outcome(now_us=-1),
    "reset before now": outcome(reset_us=-1),
    "an empty list": b"*0\r\n",
    "no list": b"*-1\r\n",
    "a list of short texts": b"*2\r\n" + bulk(b"abc") * 2,
    "lists in lists": b"*1\r\n" * 5000 + b":1\r\n",
    "RESP3": b"%1\r\n" + bulk(b"a") + b",1.5\r\n",
    "HTTP": b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    "no protocol": b"hello\r\n",
    "an immense length": b"$999999999999999\r\nx",
    "a length that is none": b"$x\r\n",
    "half an answer, and the end": outcome()[:20] + Nonsense.CUT,
    "an endless text": ENDLESS + b"$2000000000\r\n",
    "an endless error": ENDLESS + b"-ERR ",
}
CHECK = {"client_id": "x"}
ROUTES: dict[str, dict[str, Any]] = {
    "POST /v1/check": {"json": CHECK},
    "POST /v1/check/batch": {"json": {"checks": [CHECK, CHECK | {"request_id": "a"}]}},
    "GET /health": {},
    "POST /v1/leases": {"json": CHECK | {"permits": 5}},
}
SELDOM: dict[str, dict[str, Any]] = {
    "GET /v1/authorize": {},
    "GET /v1/admin/limited": {},
    "GET /v1/admin/counters?client_id=x": {},
    "GET /v1/admin/explain?client_id=x": {},
    "POST /v1/admin/counters/reset": {"json": CHECK},
}


@pytest.fixture(scope="module")
def server() -> Iterator[Nonsense]:
    with Nonsense() as running:
        yield running


@pytest.fixture(scope="module")
def deceived(server: Nonsense, rules_database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A node that is told nonsense, and never stops asking."""
    node = Node(
        redis_url=server.url,
        database_url=rules_database,
        data_dir=tmp_path_factory.mktemp("deceived"),
        WEB_CONCURRENCY=1,
        REDIS_TIMEOUT_MS=50,
        BREAKER_FAILURES=1_000_000,
    )
    with node as running:
        yield running


@pytest.mark.attack(18, f"a Redis that says one of {len(MODES)} things that no script of this service says, for ever")
def test_nonsense_of_redis_is_a_fault_of_redis(deceived: Node, server: Nonsense, measured: Figures) -> None:
    """`fail_mode` decides checks, `/health` says degraded, what needs Redis is 503; nothing is a 500 or takes long."""
    wrong, slowest, routes = [], 0.0, ROUTES | (SELDOM if ATTACKS.whole else {})
    for mode, server.answer in MODES.items():
        for route, content in routes.items():
            answer = asked(deceived, route, content)
            slowest = max(slowest, answer.elapsed.total_seconds())
            if not right(route, answer):
                wrong.append((mode, route, answer.status_code, answer.text[:100]))
    measured["answers"], measured["wrong"] = len(MODES) * len(routes), len(wrong)
    measured["slowest, s"] = round(slowest, 1)
    assert wrong == []
    assert "Traceback" not in deceived.log.read_text()
    server.answer = b"-ERR"
    assert deceived.request("GET", "/livez").status_code == 200


def asked(node: Node, route: str, content: dict[str, Any]) -> requests.Response:
    method, path = route.split(" ")
    return node.request(method, path, key=ADMIN_KEY, **content)


def right(route: str, answer: requests.Response) -> bool:
    if route == "POST /v1/check":
        return answer.status_code == 200 and answer.json()["degraded"]
    if route == "POST /v1/check/batch":
        return answer.status_code == 200 and all(
            result.get("degraded") or result["error"]["status"] == 409 for result in answer.json()["results"]
        )  # an empty answer to a request_id says that it was used otherwise
    if route == "GET /health":
        return answer.status_code == 200
    return answer.status_code in (200, 204, 503)
