"""A node whose Redis is reached by TLS alone: `rediss://`, its certificate verified."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import pytest

from app.limiter.keys import CLUSTER_SLOTS
from devstack import Valkey
from tests.support.node import Node, free_port
from tests.support.tls import certificate, tls_proxy
from tests.support.topologies import APART, MASTER, Group, eventually

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl, which makes certificates, is missing")


class Encrypted(NamedTuple):
    port: int
    certificate: Path


@pytest.fixture(scope="module")
def encrypted(valkey: Valkey, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Encrypted]:
    files = certificate(tmp_path_factory.mktemp("tls"))
    path = valkey.url.removeprefix("unix://").partition("?")[0]
    with tls_proxy(path, files) as port:
        yield Encrypted(port, files[0])


def test_checks_are_decided_over_tls(encrypted: Encrypted, database_url: str, tmp_path: Path) -> None:
    url = f"rediss://127.0.0.1:{encrypted.port}/0?ssl_ca_certs={encrypted.certificate}"
    with Node(redis_url=url, database_url=database_url, data_dir=tmp_path, REDIS_TIMEOUT_MS=5000) as node:
        assert [node.check("over-tls", cost=50)["remaining"] for _ in range(2)] == [50, 0]
        checks = [{"client_id": f"over-tls-{number}"} for number in range(1000)]  # answers longer than a TLS record
        answer = node.request("POST", "/v1/check/batch", key=None, json={"checks": checks})
        assert not any(result["degraded"] for result in answer.json()["results"])
        assert node.request("GET", "/v1/admin/limited").status_code == 200
        assert node.request("GET", "/health", key=None).json()["redis_available"]


def test_a_cluster_is_asked_over_tls(database_url: str, tmp_path: Path, sockets: Path) -> None:
    """One server with all slots, which announces the port of the proxy in front of it."""
    files = certificate(tmp_path)
    with ExitStack() as running:
        group = Group(tmp_path, sockets, running)
        server = group.start(cluster_enabled="yes", cluster_port=str(free_port()))
        port = running.enter_context(tls_proxy(str(group.socket(server)), files))
        group.ask(server, "CONFIG", "SET", "cluster-announce-port", port)
        group.ask(server, "CLUSTER", "ADDSLOTSRANGE", 0, CLUSTER_SLOTS - 1)
        eventually(lambda: "cluster_state:ok" in group.ask(server, "CLUSTER", "INFO"))
        url = f"rediss+cluster://127.0.0.1:{port}?ssl_ca_certs={files[0]}"
        with Node(redis_url=url, database_url=database_url, data_dir=tmp_path, REDIS_TIMEOUT_MS=5000) as node:
            assert [node.check("over-tls", cost=50)["remaining"] for _ in range(2)] == [50, 0]
            assert node.request("GET", "/health", key=None).json()["redis_available"]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has several addresses of the loopback")
def test_sentinels_are_asked_over_tls_and_followed(database_url: str, tmp_path: Path, sockets: Path) -> None:
    """One sentinel and two primaries, each behind a proxy that ends TLS: it names one, then the other."""
    files = certificate(tmp_path)
    with ExitStack() as running:
        group = Group(tmp_path, sockets, running)
        servers = [group.start() for _ in range(2)]
        first, second = (
            running.enter_context(tls_proxy(str(group.socket(server)), files, plain_from=APART)) for server in servers
        )
        sentinel = group.watch(first)
        port = running.enter_context(tls_proxy(str(group.socket(sentinel)), files))
        url = f"rediss+sentinel://127.0.0.1:{port}/{MASTER}?ssl_ca_certs={files[0]}"
        with Node(redis_url=url, database_url=database_url, data_dir=tmp_path, REDIS_TIMEOUT_MS=5000) as node:
            assert [node.check("over-tls", cost=50)["remaining"] for _ in range(2)] == [50, 0]
            assert node.request("GET", "/health", key=None).json()["redis_available"]
            group.ask(sentinel, "SENTINEL", "REMOVE", MASTER)
            group.ask(sentinel, "SENTINEL", "MONITOR", MASTER, "127.0.0.1", second, 1)
            assert node.eventually(lambda: node.check("over-tls", cost=0)["remaining"] == 100)  # of the other primary
            assert node.eventually(lambda: node.request("GET", "/health", key=None).json()["status"] == "healthy")


def test_a_certificate_nobody_vouches_for_is_refused(encrypted: Encrypted, database_url: str, tmp_path: Path) -> None:
    url = f"rediss://127.0.0.1:{encrypted.port}/0"
    with Node(redis_url=url, database_url=database_url, data_dir=tmp_path, REDIS_TIMEOUT_MS=5000) as node:
        assert node.check("untrusted")["degraded"]
        assert not node.request("GET", "/health", key=None).json()["redis_available"]
