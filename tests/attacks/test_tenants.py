"""A tenant that may write rules hurts the others by their number and shape; callers by the length of their ids
(rows 10 to 12)."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import requests

from devstack import Valkey
from tests.api.raw_http import CLOSE, post
from tests.attacks.conftest import MakeKey
from tests.support.burden import answered, burden
from tests.support.matrix import ATTACKS, Figures
from tests.support.node import ADMIN_KEY, ROOT, Node
from tests.support.pace import slowness

MEBIBYTE = 1024 * 1024
FACE = "\U0001f600"  # four bytes
# In an import: 250 such characters each make 1 MiB.
RULES, IMPORTS = (900, 8) if ATTACKS.whole else (300, 1)
COMPOSE = (ROOT / "docker-compose.yml").read_text()
TMPFS_MIB = int(re.findall(r"tmpfs: .*size=(\d+)m", COMPOSE)[0])
MEMORY_MIB = int(re.findall(r"memory: (\d+)M", COMPOSE)[0])


@pytest.fixture
def tmpfs(tmp_path: Path) -> Iterator[Path]:
    """As small as docker-compose.yml has it."""
    place = tmp_path / "small"
    place.mkdir()
    size = f"size={TMPFS_MIB}m"
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tmpfs", place], capture_output=True, check=False)
    if mounted.returncode != 0:
        pytest.skip(f"this user cannot mount a tmpfs: {mounted.stderr.decode().strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", place], check=True)


@pytest.mark.attack(
    10, f"{IMPORTS * RULES:,} rules of a tenant, by long names, each asked for; metrics on {TMPFS_MIB} MiB"
)
def test_series_of_a_tenant_kill_no_worker(
    redis_server: Valkey, rules_database: str, tmpfs: Path, tmp_path: Path, measured: Figures
) -> None:
    """The files stay within the tmpfs, no worker dies, and every check of every tenant is answered; also when somebody
    else has filled it."""
    node = Node(
        redis_url=redis_server.url,
        database_url=rules_database,
        data_dir=tmp_path,
        PROMETHEUS_MULTIPROC_DIR=tmpfs,
        REDIS_TIMEOUT_MS=2000,
    )
    with node:
        node.request("POST", "/v1/admin/tenants", json={"name": "broad"})
        body = {"tenant": "broad", "name": "broad", "scopes": ["check", "rules:write"]}
        key = node.request("POST", "/v1/admin/api-keys", json=body).json()["key"]
        node.await_rules()
        workers = node.workers
        failed = sum(broadened(node, key, number) for number in range(IMPORTS))
        measured["used, MiB"] = round(used(tmpfs) / MEBIBYTE, 1)
        measured["series"] = node.request("GET", "/metrics", key=None).text.count("\nratelimiter_allowed_total{")
        fill(tmpfs)
        failed += broadened(node, key, IMPORTS)
        failed += sum(not answers(node) for _ in range(20))
        measured["checks that failed"] = failed
        measured["workers that died"] = len(set(workers) - set(node.workers))
        assert node.request("GET", "/metrics", key=None).status_code == 200
    assert (failed, measured["workers that died"]) == (0, 0)


def broadened(node: Node, key: str, number: int) -> int:
    """Import rules by names that nobody has yet, and check each some times. The batches that were not answered."""
    names = [f"{number:03d} {rule:06d}".ljust(250, FACE) for rule in range(RULES)]
    rules = [{"client_id": name, "rate": 1000, "window": 60} for name in names]
    body = json.dumps({"rules": rules}, ensure_ascii=False).encode()
    answer = node.request("POST", "/v1/admin/import", key=key, data=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 200, answer.text[:300]
    node.await_rules()
    batches = [names[first : first + 225] for first in range(0, RULES, 225)]
    return sum(not answers(node, key, batch) for batch in batches * 3)


def answers(node: Node, key: str = ADMIN_KEY, names: list[str] | None = None) -> bool:
    """On a connection of its own, so of any worker."""
    checks = {"checks": [{"client_id": name} for name in names or ["default"]]}
    body = json.dumps(checks, ensure_ascii=False).encode()
    headers = {"Content-Type": "application/json", "X-API-Key": key}
    try:
        return requests.post(f"{node.url}/v1/check/batch", body, headers=headers, timeout=30).status_code == 200
    except requests.ConnectionError:
        return False


def used(place: Path) -> int:
    system = os.statvfs(place)
    return (system.f_blocks - system.f_bfree) * system.f_frsize


def fill(place: Path) -> None:
    with ExitStack() as stack:
        file = stack.enter_context((place / "of somebody else").open("wb", buffering=0))
        try:
            while True:
                file.write(b"x" * 4096)
        except OSError:
            pass


PATTERNS = (10_000, 5_000, 2_000, 1_000, 500, 100) if ATTACKS.whole else (1_000, 500, 100)


def globs(count: int, stars: int) -> list[dict[str, Any]]:
    """Patterns that share head, tail and all pieces; an id with the pieces in another order does not match them."""
    if stars == 3:
        names = [f"a*{'a' * (1 + number % 100)}c*{'a' * (1 + number // 100)}d*b" for number in range(count)]
    else:
        middles = ["*".join("a" * (1 + (number >> place & 1)) for place in range(stars - 4)) for number in range(count)]
        names = [f"a*aaaac*{middle}*d*b" for middle in middles]
    return [{"client_id": name, "rate": 1, "window": 1} for name in names]


@pytest.mark.attack(
    11, f"{PATTERNS[0]:,} patterns with 20 stars and common parts; with 3 as many as are taken, and a batch of long ids"
)
def test_patterns_of_a_tenant_keep_nobody_waiting(attacked: Node, make_key: MakeKey, measured: Figures) -> None:
    """What would be dear to match is refused. What is taken costs a batch little, and no worker is killed."""
    key = make_key("patterned", "check", "rules:write")
    workers = attacked.workers
    refused = imported(attacked, key, globs(PATTERNS[0], stars=20))
    measured["20 stars"] = f"refused ({refused})" if refused >= 400 else "taken"
    taken = next((number for number in PATTERNS if imported(attacked, key, globs(number, stars=3)) < 400), 0)
    measured["3 stars, taken"] = taken
    attacked.await_rules()
    ids = [f"{'a' * 100}d{'a' * 100}c{'a' * 40}{number:03d}b" for number in range(900)]
    body = json.dumps({"checks": [{"client_id": name} for name in ids]}).encode()
    with burden(attacked) as load:
        raw = answered(attacked.port, post("/v1/check/batch", body, f"X-API-Key: {key}\r\n".encode(), CLOSE))
    measured["CPU s of a batch of 900"], measured["others' longest wait, ms"] = load.cpu_seconds, load.longest_ms
    assert refused in (409, 422)
    assert taken > 0
    assert raw.startswith(b"HTTP/1.1 200")
    assert load.cpu_seconds < 2 * slowness()
    assert load.others.failed == 0
    assert attacked.workers == workers


def imported(node: Node, key: str, rules: list[dict[str, Any]]) -> int:
    """The status, after at most a minute."""
    url, headers = f"{node.url}/v1/admin/import?replace=true", {"X-API-Key": key}
    return requests.post(url, json={"rules": rules}, headers=headers, timeout=60).status_code


LONG_IDS, BATCHES = (140_000, 8) if ATTACKS.whole else (2_000, 2)
WRONG = b'{"checks":[' + b",".join([b"1"] * 130_000) + b"]}"


@pytest.mark.attack(
    12, f"{LONG_IDS:,} ids of 256 four-byte characters, with the longest keys, then {BATCHES} wrong batches of 256 KB"
)
def test_long_ids_fit_in_the_container(attacked: Node, measured: Figures) -> None:
    """The memory of all processes of the node stays under what the container has."""
    before = memory_mib(attacked)
    for first in range(0, LONG_IDS, 100):
        ids = [f"{number:08d}".ljust(256, FACE) for number in range(first, first + 100)]
        checks = [{"client_id": name, "limit_key": FACE * 128, "cost": 60} for name in ids]
        body = json.dumps({"checks": checks}, ensure_ascii=False).encode()
        assert answered(attacked.port, post("/v1/check/batch", body, CLOSE)).startswith(b"HTTP/1.1 200")
    measured["MiB before"], measured["after long ids"] = before, memory_mib(attacked)
    for _ in range(BATCHES):
        answered(attacked.port, post("/v1/check/batch", WRONG, CLOSE))
    measured["after wrong batches"], measured["of the container"] = memory_mib(attacked), MEMORY_MIB
    assert memory_mib(attacked) < MEMORY_MIB
    assert memory_mib(attacked) - before < MEMORY_MIB / 2


def memory_mib(node: Node) -> int:
    """What the master and the workers hold, shared memory counted once."""
    rollups = [Path(f"/proc/{pid}/smaps_rollup").read_text() for pid in (node.pid, *node.workers)]
    return sum(int(rollup.partition("\nPss:")[2].split()[0]) for rollup in rollups) // 1024
