"""No request keeps a worker from its other callers for more than 50 ms, however much it asks for."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from devstack import Valkey
from tests.api.test_bounds import HOSTILE
from tests.support.node import Node
from tests.support.pace import slowness

# CPU time, collections of garbage included. What is done in pieces takes 5 ms at a time; a large body is parsed at
# once, which takes 10 to 20.
MAX_SECONDS, MAX_SECONDS_OF_LARGE_BODIES, LARGE = 0.025, 0.05, 100_000
TRIES = 4
RULES: list[dict[str, Any]] = [
    {"client_id": f"client {number}", "rate": 5, "window": 60, "description": "d" * 200, "enabled": number % 2 == 0}
    for number in range(3_000)
]
CHANGED = [rule | {"rate": 6} for rule in RULES]
INVALID = [{"client_id": "a"}] * 10_000
ESCAPED = [{"client_id": f"\u00e9{number}", "cost": 0} for number in range(1000)]  # as json.dumps writes it: escaped
IMPORT = "/v1/admin/import"
REQUESTS: dict[str, tuple[str, str, bytes]] = {
    "an import that changes nothing": ("POST", IMPORT, json.dumps({"rules": RULES}).encode()),
    "a dry run": ("POST", f"{IMPORT}?dry_run=true&replace=true", json.dumps({"rules": RULES[:1]}).encode()),
    "an invalid import": ("POST", IMPORT, json.dumps({"rules": INVALID}).encode()),
    "a page of rules": ("GET", "/v1/admin/rules", b""),
    "all rules in short": ("GET", "/rules", b""),
    "an export": ("GET", "/v1/admin/export", b""),
    "a page of the audit": ("GET", "/v1/admin/audit", b""),
    "an explanation": ("GET", "/v1/admin/explain?client_id=client%201", b""),
    "a scrape": ("GET", "/metrics", b""),
    "the clients denied most": ("GET", "/v1/admin/limited", b""),
    "the counters of a client": ("GET", "/v1/admin/counters?client_id=client%200", b""),
    "one change among many rules": ("POST", "/v1/admin/rules", b'{"client_id":"a","rate":1,"window":1}'),
    "a batch with escapes": ("POST", "/v1/check/batch", json.dumps({"checks": ESCAPED}).encode()),
    "an import that changes all": ("POST", IMPORT, json.dumps({"rules": CHANGED}).encode()),
    "an import that deletes all": ("POST", f"{IMPORT}?replace=true", b'{"rules":[]}'),
} | {name: ("POST", path, body) for name, (path, body) in HOSTILE.items()}


class Watched(Node):
    command = ("gunicorn", "-c", "tests/support/watched.py", "wsgi:app")

    def __init__(self, *, data_dir: Path, **settings: Any) -> None:
        self._notes = data_dir / "pauses"
        super().__init__(data_dir=data_dir, PAUSES=self._notes, **settings)

    def longest_pause(self) -> float:
        """Since it was asked last, seconds."""
        self.request("GET", "/livez")  # the worker notes the end of a request when it turns to the next
        pauses = [float(line) for line in self._notes.read_text().split()]
        self._notes.write_text("")
        return max(pauses, default=0.0)


@pytest.fixture(scope="module")
def watched(
    valkey: Valkey, new_database: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Node]:
    database_url = new_database("watched")
    with Watched(
        redis_url=valkey.url,
        database_url=database_url,
        data_dir=tmp_path_factory.mktemp("watched"),
        REDIS_TIMEOUT_MS=2000,
        WEB_CONCURRENCY=1,
    ) as node:
        answer = node.request("POST", IMPORT, json={"rules": RULES})
        assert len(answer.json()["created"]) == len(RULES)
        node.await_rules()
        for number in range(0, len(RULES), 1000):  # each rule that is used has series
            checks = [{"client_id": rule["client_id"]} for rule in RULES[number : number + 1000]]
            assert node.request("POST", "/v1/check/batch", key=None, json={"checks": checks}).status_code == 200
        assert node.request("GET", "/metrics").text.count('client_id="client ') == len(RULES)  # half of them, two each
        yield node


@pytest.mark.parametrize(("method", "path", "body"), REQUESTS.values(), ids=REQUESTS)
def test_no_request_keeps_the_worker_from_others(watched: Watched, method: str, path: str, body: bytes) -> None:
    allowed = (MAX_SECONDS_OF_LARGE_BODIES if len(body) > LARGE else MAX_SECONDS) * slowness()
    shortest = math.inf
    for _ in range(TRIES):  # what is only done once in the life of a worker is no matter
        watched.longest_pause()
        answer = watched.request(method, path, data=body, headers={"Content-Type": "application/json"} if body else {})
        assert answer.status_code in (200, 201, 400, 422), answer.text[:200]
        shortest = min(shortest, watched.longest_pause())
        if shortest < allowed:
            break
    assert shortest < allowed


def test_a_pause_would_be_noted(watched: Watched) -> None:
    watched.longest_pause()
    batch = {"checks": [{"client_id": f"client {number}", "limit_key": "\u00e9"} for number in range(1_000)]}
    assert watched.request("POST", "/v1/check/batch", json=batch).status_code == 200
    assert watched.longest_pause() > 0
