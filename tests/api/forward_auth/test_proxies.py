"""An application without a line of code for it is limited by the proxy in front: each file of deploy/forward-auth."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from devstack import Valkey
from tests.api.raw_http import PROBLEM
from tests.support.front import CLIENT, COMMANDS, Application, Front
from tests.support.node import Node, behind_proxy
from tests.support.upgrading import Upgrading

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs a second loopback address for the client")

LIMIT = 5
LIES = {
    "Host": "app.example",
    "X-Forwarded-For": "198.51.100.7",
    "X-Real-IP": "198.51.100.7",
    "X-API-Key": "the application's own business",
    "Authorization": "Bearer likewise",
    "Cookie": "a=b",
    "X-Forwarded-Uri": "/other",
    "X-Limit-Client": "198.51.100.7",
    "X-Forwarded-Method": "OPTIONS",
}


PREFLIGHT = {"Origin": "https://app.example", "Access-Control-Request-Method": "POST"}
# What an application may be sent, and the limiter takes neither so long nor so many.
LARGE = {"Referer": "http://x/" + "r" * 5000, "X-Amzn-Oidc-Data": "d" * 5000} | {f"X-{n}": "x" for n in range(60)}
UPGRADE = (
    b"GET /socket HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


@pytest.fixture(scope="module")
def limiter(valkey: Valkey, database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    data_dir = tmp_path_factory.mktemp("limiter")
    with behind_proxy(valkey.url, database_url, data_dir) as node:
        yield node


@pytest.mark.parametrize("name", COMMANDS)
def test_who_is_over_the_limit_does_not_reach_the_application(limiter: Node, name: str, tmp_path: Path) -> None:
    rule = {"rate": LIMIT, "window": 3600, "algorithm": "fixed_window"}
    stored = limiter.put_rule(client_id=f"ip:{CLIENT}", endpoint=name, **rule)
    with (
        Application() as application,
        Front(name, tmp_path, limiter=limiter.port, application=application.port, limit_key=name) as front,
    ):
        passed = [front.request("POST", "/a?b=c", data=b"there", headers=LIES) for _ in range(LIMIT - 1)]
        assert [(answer.status_code, answer.content) for answer in passed] == [(200, b"hello there")] * (LIMIT - 1)
        assert application.asked == ["GET /?"] + ["POST /a?b=c"] * (LIMIT - 1)
        # Whatever the client sends, it is him.
        for method, path, headers in [
            ("GET", "/", {}),
            ("POST", "/a?b=c", LIES),
            ("GET", "//elsewhere/../x", {}),
            ("DELETE", "/b/%2e%2e/other", LIES),
        ]:
            denied = front.request(method, path, headers=headers)
            assert denied.status_code == 429, (method, path, denied.text)
            assert denied.headers["Content-Type"] == PROBLEM
            assert denied.json()["status"] == 429
            assert denied.headers["RateLimit-Policy"] == f'"{stored["id"]}";q={LIMIT};w=3600'
            assert denied.headers["RateLimit"].startswith(f'"{stored["id"]}";r=0;t=')
            assert 0 < int(denied.headers["Retry-After"]) <= 3600
            assert denied.headers["Access-Control-Allow-Origin"] == "https://app.example"
            assert "Retry-After" in denied.headers["Access-Control-Expose-Headers"]
        # Nobody pays for what a browser asks before it asks.
        assert front.request("OPTIONS", "/a", headers=PREFLIGHT).status_code == 200
        assert application.asked.pop() == "OPTIONS /a?"
        assert "error]" not in front.log.read_text()  # nginx: a denial is none
        hop = {"Connection": "X-Forwarded-For", "X-Forwarded-For": "198.51.100.7"}
        assert front.request("GET", "/", headers=hop).status_code in (400, 429)
        assert len(application.asked) == LIMIT


@pytest.mark.parametrize("name", COMMANDS)
def test_nobody_passes_where_the_limiter_does_not_answer(name: str, tmp_path: Path) -> None:
    with (
        Application() as application,
        Front(name, tmp_path, limiter=1, application=application.port, limit_key=name) as front,
    ):
        assert front.request("GET", "/").status_code >= 500
        assert application.asked == []


@pytest.mark.parametrize("name", COMMANDS)
def test_large_heads_and_upgraded_connections_pass(limiter: Node, name: str, tmp_path: Path) -> None:
    with (
        Upgrading() as application,
        Front(name, tmp_path, limiter=limiter.port, application=application.port, limit_key=f"{name}-passes") as front,
    ):
        assert front.request("GET", "/", headers=LARGE).status_code == 200
        with (
            socket.create_connection(("127.0.0.1", front.port), timeout=10) as connection,
            connection.makefile("rb") as answer,
        ):
            connection.sendall(UPGRADE % front.port)
            assert answer.readline().startswith(b"HTTP/1.1 101 ")
            while answer.readline().strip():
                pass
            connection.sendall(b"there\n")
            assert answer.readline() == b"there\n"


def test_a_limiter_that_does_not_know_the_proxy_names_the_setting(node: Node, tmp_path: Path) -> None:
    """nginx tells its client nothing, and logs nothing."""
    with (
        Application() as application,
        Front("nginx", tmp_path, limiter=node.port, application=application.port, limit_key="unknown") as front,
    ):
        assert front.request("GET", "/").status_code == 503
        assert application.asked == []
    assert "X-Forwarded-For comes from 127.0.0.1, which is not among TRUSTED_PROXIES" in node.log.read_text()
