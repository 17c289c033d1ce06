"""Keys on more than one node, over restarts, without the database, and when the secrets change."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from devstack import Valkey
from tests.api.raw_http import problem_of
from tests.conftest import flask
from tests.support.node import ADMIN_KEY, Node

KEYS = "/v1/admin/api-keys"
NOBODY = "postgresql://nobody@127.0.0.1:1/none"


def _status(node: Node, key: str) -> int:
    return node.request("POST", "/v1/check", key=key, json={"client_id": "k", "cost": 0}).status_code


def test_keys_reach_other_nodes_and_outlive_the_database(
    valkey: Valkey, new_database: Callable[[str], str], tmp_path: Path
) -> None:
    url = new_database("lifecycle")
    first_dir, second_dir = tmp_path / "first", tmp_path / "second"
    first_dir.mkdir()
    second_dir.mkdir()
    common = {"redis_url": valkey.url, "REDIS_TIMEOUT_MS": 2000, "WEB_CONCURRENCY": 1, "CHECK_AUTH": "required"}
    second = Node(database_url=url, data_dir=second_dir, **common)
    with Node(database_url=url, data_dir=first_dir, **common) as first, second:
        made = [first.request("POST", KEYS, json={"name": "k", "scopes": ["check"]}).json() for _ in range(3)]
        kept, revoked, by_secret = (key["key"] for key in made)
        assert second.eventually(lambda: [_status(second, key) for key in (kept, revoked, by_secret)] == [200] * 3)
        assert first.request("DELETE", f"{KEYS}/{made[1]['id']}").status_code == 204
        assert second.eventually(lambda: _status(second, revoked) == 401)
        assert _status(second, kept) == 200
    with Node(database_url=NOBODY, data_dir=second_dir, **common) as orphan:
        assert [_status(orphan, key) for key in (kept, revoked, ADMIN_KEY)] == [200, 401, 200]
        problem_of(orphan.request("GET", "/v1/admin/rules"), 503)
    with Node(
        database_url=url, data_dir=first_dir, ADMIN_API_KEY="another-bootstrap-key-of-enough-characters", **common
    ) as rotated:
        assert _status(rotated, ADMIN_KEY) == 401
        assert _status(rotated, "another-bootstrap-key-of-enough-characters") == 200
        assert _status(rotated, kept) == 200
        assert flask("keys", "rotate-secret", "--yes", database_url=url) == "2 keys revoked; make new ones\n"
        assert rotated.eventually(lambda: _status(rotated, kept) == 401)
        assert _status(rotated, "another-bootstrap-key-of-enough-characters") == 200
        anew = {"name": "k", "scopes": ["check"]}
        new = rotated.request("POST", KEYS, key="another-bootstrap-key-of-enough-characters", json=anew).json()["key"]
        assert _status(rotated, new) == 200
