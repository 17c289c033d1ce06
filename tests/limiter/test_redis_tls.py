"""A node whose Redis is reached by TLS alone: `rediss://`, its certificate verified."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from app.embedded import Valkey
from tests.support.node import Node
from tests.support.tls import certificate, tls_proxy

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


def test_a_certificate_nobody_vouches_for_is_refused(encrypted: Encrypted, database_url: str, tmp_path: Path) -> None:
    url = f"rediss://127.0.0.1:{encrypted.port}/0"
    with Node(redis_url=url, database_url=database_url, data_dir=tmp_path, REDIS_TIMEOUT_MS=5000) as node:
        assert node.check("untrusted")["degraded"]
        assert not node.request("GET", "/health", key=None).json()["redis_available"]
