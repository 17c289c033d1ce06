"""What traefik.yml and deploy/traefik/ promise, with the real Traefik: nothing lost to a dead node, nothing twice."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
import requests

from app.api.request_body import MAX_BYTES_OF_IMPORT
from tests.support.node import Node, free_port
from tests.support.traefik import Traefik
from tests.support.unfaithful import Unfaithful

CHECK = {"client_id": "traefik"}
REQUESTS: dict[str, dict[str, Any]] = {
    "with a body": {"json": CHECK},
    "without a body": {"data": b""},
    "with a key for repetition": {"json": CHECK, "headers": {"Idempotency-Key": "1", "X-Idempotency-Key": "1"}},
    "with such a key and no body": {"data": b"", "headers": {"Idempotency-Key": "1"}},
    "large": {"data": b" " * 200_000},
}
TRACE = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "Tracestate": "a=b"}
SECURITY = {"X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "Referrer-Policy": "no-referrer"}


@pytest.fixture
def unfaithful(request: pytest.FixtureRequest) -> Iterator[list[Unfaithful]]:
    """Three of the conduct the test names."""
    with ExitStack() as running:
        yield [running.enter_context(Unfaithful(request.param)) for _ in range(3)]


@pytest.fixture(scope="module")
def traefik(node: Node, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Traefik]:
    """In front of one real node."""
    with Traefik(tmp_path_factory.mktemp("traefik"), [node.port]) as running:
        yield running


def heard(servers: list[Unfaithful]) -> int:
    return sum(len(server.heard) for server in servers)


def forget(servers: list[Unfaithful]) -> None:
    for server in servers:
        server.heard.clear()


def test_dead_nodes_cost_no_request_and_what_arrives_arrives_once(tmp_path: Path) -> None:
    many = 300
    with Unfaithful("answers") as alive, Traefik(tmp_path, [free_port(), alive.port]) as traefik:
        assert traefik.up() == [True, True]  # so both are tried
        alive.heard.clear()
        with ThreadPoolExecutor(16) as callers:
            answers = list(callers.map(lambda _: traefik.request("POST", "/v1/check", json=CHECK), range(many)))
        assert {answer.status_code for answer in answers} == {200}
        assert len(alive.heard) == many
        assert traefik.eventually(lambda: traefik.up() == [False, True])


def test_without_a_ready_node_any_that_answers_gets_the_checks(tmp_path: Path) -> None:
    """As while the last node drains and Traefik has not found the restarted one yet."""
    with Unfaithful("drains") as draining, Traefik(tmp_path, [free_port(), draining.port]) as traefik:
        assert traefik.eventually(lambda: traefik.up() == [False, False])
        assert traefik.eventually(lambda: traefik.up("admin") == [False, False])
        for port in (traefik.port, traefik.admin):
            statuses = [traefik.request("POST", "/v1/check", port=port, json=CHECK).status_code for _ in range(20)]
            assert set(statuses) == {200}


@pytest.mark.parametrize("unfaithful", ["closes", "resets", "answers once"], indirect=True)
def test_what_may_have_reached_a_node_is_never_sent_again(unfaithful: list[Unfaithful], tmp_path: Path) -> None:
    statuses = set()
    with Traefik(tmp_path, [server.port for server in unfaithful]) as traefik:
        for name, content in REQUESTS.items():
            for path in ("/v1/check", "/v1/check/batch") * 3:
                forget(unfaithful)
                statuses.add(traefik.request("POST", path, **content).status_code)
                assert heard(unfaithful) == 1, name
        forget(unfaithful)
        statuses.add(traefik.request("DELETE", "/v1/admin/rules/1", port=traefik.admin).status_code)
        assert heard(unfaithful) == 1
    assert statuses == ({200, 502} if unfaithful[0].conduct == "answers once" else {502})


@pytest.mark.parametrize("unfaithful", ["answers"], indirect=True)
def test_nodes_hear_who_the_client_is_from_traefik_alone(unfaithful: list[Unfaithful], tmp_path: Path) -> None:
    lies = {"X-Forwarded-For": "198.51.100.7", "X-Real-Ip": "198.51.100.7", "X_Forwarded_For": "198.51.100.7"}
    with Traefik(tmp_path, [server.port for server in unfaithful]) as traefik:
        for port in (traefik.port, traefik.admin):
            forget(unfaithful)
            answer = traefik.request("POST", "/v1/check", port=port, json=CHECK, headers=lies | TRACE)
            assert "Server" not in answer.headers
            assert SECURITY.items() <= answer.headers.items()
            [request] = [request for server in unfaithful for request in server.heard]
            assert b"198.51.100.7" not in request
            assert b"trace" not in request.lower()
            assert b"\r\nX-Forwarded-For: 127.0.0.1\r\n" in request


def test_each_entry_point_has_its_own_paths(traefik: Traefik) -> None:
    def status(path: str, port: int) -> int:
        return traefik.request("GET", path, port=port).status_code

    checks, admin, internal = traefik.port, traefik.admin, traefik.internal
    assert status("/v1/check", checks) == 405
    for path in (
        "/v1/authorize",
        "/v1/admin/rules",
        "/rules",
        "/health",
        "/livez",
        "/docs",
        "/openapi.json",
        "/metrics",
        "/",
    ):
        assert status(path, checks) == 404, path
    assert status("/v1/admin/rules", admin) == 401
    assert [status(path, admin) for path in ("/health", "/openapi.json", "/metrics", "/v1/authorize")] == [
        200,
        200,
        404,
        404,
    ]
    assert [status(path, internal) for path in ("/ping", "/metrics", "/v1/check")] == [200, 200, 404]
    for port in (checks, admin, internal):
        for path in ("/api/rawdata", "/dashboard/", "/debug/vars"):
            assert status(path, port) == 404, path
    assert "ERR" not in traefik.log.read_text()


def test_a_check_through_traefik_is_one_of_the_fast_lane(traefik: Traefik, node: Node) -> None:
    """What Flask answers is counted by flask_http_request_total, what the fast lane answers is not."""
    series = 'flask_http_request_total{method="POST",status="200"}'
    through_flask = node.metric(series)
    answer = traefik.request("POST", "/v1/check", json=CHECK)
    assert (answer.status_code, answer.json()["degraded"]) == (200, False)
    assert answer.headers["RateLimit"]
    assert node.metric(series) == through_flask


def test_leases_go_through_traefik(traefik: Traefik) -> None:
    lease = traefik.request("POST", "/v1/leases", json={"client_id": "leaseholder", "permits": 5}).json()
    assert lease["granted"] == 5
    path = f"/v1/leases/{lease['lease_id']}/return"
    answer = traefik.request("POST", path, json={"unused": 2})
    assert answer.json() == {"lease_id": lease["lease_id"], "returned": 2}
    assert traefik.request("POST", path + "/more", json={}).status_code == 404
    assert "X-Correlation-ID" not in traefik.request("POST", path + "/more", json={}).headers  # no node was asked


def test_too_large_and_too_slow(traefik: Traefik) -> None:
    answer = traefik.request("POST", "/v1/check", data=b"x" * 2_000_000, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["title"]) == (413, "Content Too Large")
    for length, status in ((MAX_BYTES_OF_IMPORT + 1, 413), (3_000_000, 401)):  # the node's own answer: without a key
        with closing(HTTPConnection("127.0.0.1", traefik.admin, timeout=30)) as operator:
            operator.putrequest("POST", "/v1/admin/import")
            operator.putheader("Content-Length", str(length))
            operator.endheaders(b"x" * length if status == 401 else None)
            assert operator.getresponse().status == status
    answer = traefik.request("POST", "/v1/check", json=CHECK, headers={"X-Long": "x" * 30_000})
    assert answer.status_code == 431
    half = b"POST /v1/check HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 30\r\n\r\n{"
    with ExitStack() as stack:
        address = ("127.0.0.1", traefik.port)
        slow_head, slow_body = (stack.enter_context(socket.create_connection(address, timeout=30)) for _ in range(2))
        slow_head.sendall(half[:30])
        slow_body.sendall(half)
        assert slow_head.recv(65536) == b""
        assert slow_body.recv(65536).startswith(b"HTTP/1.1 408 ")


def test_a_chunked_check_is_refused_by_the_node(traefik: Traefik) -> None:
    answer = requests.post(
        f"http://127.0.0.1:{traefik.port}/v1/check",
        data=iter([b'{"client_id": "traefik"}']),
        headers={"Content-Type": "application/json"},
        timeout=20,
    )
    assert (answer.status_code, answer.json()["status"]) == (411, 411)
