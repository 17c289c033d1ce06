"""A node of the release before this one beside one of this release, on this schema: as during every deploy (row 25)."""

from __future__ import annotations

import io
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace
from sqlalchemy import create_engine
from sqlalchemy.orm import Session

from devstack import Valkey
from tests.support.faults import Figures
from tests.support.node import ROOT, Node
from tests.support.other_commits import import_path, install_packages
from tests.support.stored import changes, put_rule, rule

LAST = max((ROOT / "migrations/versions").glob("*.py")).name
APART = "0005"  # releases before that migration spell the keys of counters otherwise
HOUR = 3600
DEFAULT_RATE = 100


@pytest.fixture
def older(tmp_path: Path) -> Path:
    """The tree of the commit before the last migration, with its own packages."""
    added = _git("log", "--diff-filter=A", "--format=%H", "-1", "--", f"migrations/versions/{LAST}").decode().strip()
    archive = _git("archive", f"{added}^") if added else b""
    if not archive:
        pytest.skip(f"no history here that goes back to before migrations/versions/{LAST}")
    with tarfile.open(fileobj=io.BytesIO(archive)) as tree:
        tree.extractall(tmp_path / "older")
    install_packages(tmp_path / "older")
    return tmp_path / "older"


@pytest.fixture
def pair(
    older: Path, valkey: Valkey, own_database: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Node, Node]]:
    """The older node, and one of this release, on the same servers."""

    def node(root: Path) -> Node:
        place = tmp_path_factory.mktemp("node")
        servers = {"redis_url": valkey.url, "database_url": own_database}
        packages = import_path(root) if root != ROOT else {}
        return Node(**servers, data_dir=place, root=root, REDIS_TIMEOUT_MS=5000, **packages)

    with node(older) as before, node(ROOT) as now:
        yield before, now


@pytest.mark.fault(25, "a node of the commit before the last migration, on this schema, beside a node of this release")
def test_a_node_of_the_release_before_works_on_this_schema(
    pair: tuple[Node, Node], own_database: str, measured: Figures
) -> None:
    """It is healthy, decides by what is changed through either node, and makes changes that the other decides by.

    It goes on beside rules for groups, in layers and with shared counters, which it neither sees nor decides by.
    """
    before, now = pair
    hidden = layered_rules(own_database)
    for number, (writer, other) in enumerate([(now, before), (before, now)]):
        rule = {"client_id": f"release-{number}", "rate": 5 + number, "window": HOUR, "algorithm": "fixed_window"}
        answer = writer.request("POST", "/v1/admin/rules", json=rule)
        assert answer.status_code == 201, answer.text
        for node in pair:
            assert node.eventually(decides_by(node, f"release-{number}", 5 + number)), node.log.read_text()
        edited = other.request("POST", "/v1/admin/rules", json=rule | {"rate": 50 + number})
        assert edited.status_code == 200, edited.text
        for node in pair:
            assert node.eventually(decides_by(node, f"release-{number}", 50 + number)), node.log.read_text()
    assert [node.request("GET", "/health", key=None).json()["status"] for node in pair] == ["healthy"] * 2
    listed = before.request("GET", "/v1/admin/rules?page_size=100").json()
    assert not hidden & {rule["id"] for rule in listed}
    assert hidden <= {rule["id"] for rule in now.request("GET", "/v1/admin/rules?page_size=100").json()}
    for client_id in ("shared", "moved"):
        assert before.eventually(decides_by(before, client_id, DEFAULT_RATE))
    decisions = [node.check("release-0") for node in pair * 5]
    assert not any(decision["degraded"] for decision in decisions)
    together = now.check("release-0", cost=0)["remaining"] == 50 - len(decisions)
    measured["last migration"], measured["counted together"] = LAST[:4], "yes" if together else "no"
    assert together or LAST[:4] <= APART
    assert "Traceback" not in before.log.read_text()


def layered_rules(database_url: str) -> set[int]:
    """Store a rule of each kind that the release before does not understand; return their ids."""
    engine = create_engine(database_url)
    with Session(engine) as session:
        stored = [
            put_rule(session, rule("shared", shared=True)),
            put_rule(session, rule("*", layer="protection", endpoint="login")),
            put_rule(session, rule("", group="org:*", shared=True)),
            put_rule(session, rule("moved")),
        ]
        changes(session).edit(stored[-1][0].id, lambda moved: replace(moved, layer="org"))
    engine.dispose()
    return {each.id for each, _ in stored}


def decides_by(node: Node, client_id: str, limit: int) -> Callable[[], bool]:
    return lambda: node.check(client_id, cost=0)["limit"] == limit


def _git(*words: str) -> bytes:
    """What it says; nothing where it cannot."""
    return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, check=False).stdout
