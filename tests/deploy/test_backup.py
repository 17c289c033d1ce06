"""The commands of docs/operations.md that save and bring back everything, run on a database in use."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from devstack import Postgres, Valkey
from tests.support.node import ROOT, Node

LISTS = ("tenants", "rules", "rules/1/versions", "templates", "api-keys", "audit", "export")
LIMIT = {"rate": 9, "window": 3600, "algorithm": "fixed_window"}


def commands() -> str:
    """Of both blocks, in their order."""
    section = (ROOT / "docs/operations.md").read_text().partition("## Backup and restore\n")[2].partition("\n## ")[0]
    return "\n".join(re.findall(r"^\$ (.*)$", section, re.MULTILINE))


def fill(node: Node) -> str:
    """Something of every kind; a key that may check."""

    def post(path: str, **body: Any) -> Any:
        answer = node.request("POST", f"/v1/admin/{path}", json=body)
        assert answer.status_code in (200, 201), answer.text
        return answer.json()

    post("rules", client_id="saved", **LIMIT)
    post("rules", client_id="saved", **LIMIT | {"rate": 10})
    post("templates", name="own", rules=[LIMIT])
    post("tenants", name="second")
    node.await_rules()
    return str(post("api-keys", name="saved", scopes=["check"])["key"])


def seen(node: Node) -> dict[str, Any]:
    """Everything that the administration shows, without when keys were last used."""
    shown = {path: node.request("GET", f"/v1/admin/{path}").json() for path in LISTS}
    for key in shown["api-keys"]:
        del key["last_used_at"]
    return shown


def test_what_was_saved_is_there_again(
    valkey: Valkey, postgres: Postgres, empty_database: Callable[[str], str], new_database: Any, tmp_path: Path
) -> None:
    saved, empty = new_database("saved"), empty_database("restored")
    servers = {"redis_url": valkey.url, "CHECK_AUTH": "required", "WEB_CONCURRENCY": 1, "REDIS_TIMEOUT_MS": 5000}
    places = [tmp_path / name for name in ("before", "after")]
    for place in places:
        place.mkdir()
    with Node(database_url=saved, data_dir=places[0], **servers) as node:
        key = fill(node)
        check = {"key": key, "json": {"client_id": "saved", "cost": 3}}
        assert node.eventually(lambda: node.request("POST", "/v1/check", **check).status_code == 200)
        before = seen(node)
        left = node.request("POST", "/v1/check", **check).json()["remaining"]
        programs = os.pathsep.join((str(Path(sys.executable).parent), str(postgres.home.programs), os.environ["PATH"]))
        environment = {"PATH": programs, "OWNER_URL": saved, "EMPTY_URL": empty}
        said = commands().replace("ratelimiter.dump", str(tmp_path / "ratelimiter.dump"))
        subprocess.run(["bash", "-exc", said], cwd=ROOT, env=environment, check=True, timeout=120)
    with Node(database_url=empty, data_dir=places[1], **servers) as node:
        assert seen(node) == before
        decision = node.request("POST", "/v1/check", **check).json()
        assert (decision["limit"], decision["remaining"], decision["degraded"]) == (10, left - 3, False)
        node.put_rule(client_id="later", **LIMIT)  # numbers go on where they were
