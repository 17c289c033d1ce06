"""Keys come and go, rules change in thousands, a database is restored, under two nodes of two workers."""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests

from devstack import Postgres
from tests.faults.conftest import Sql
from tests.support.faults import ALL, Figures
from tests.support.freshness import VERSION, seconds_until, soon
from tests.support.load import Load, percentile
from tests.support.node import Node

API_KEYS = "/v1/admin/api-keys"
KEYS = 200 if ALL else 5
RULES = 10_000
CHANGES = 10 if ALL else 2
ANSWERS = 500 if ALL else 100  # before and between the changes, to compare with
MINE = "SELECT id FROM rules WHERE client_id LIKE 'many-%'"
ANNOUNCED = "UPDATE rule_book SET version = version + 1; NOTIFY rules"
FILL = f"""
    INSERT INTO rules (tenant_id, client_id) SELECT 1, 'many-' || n FROM generate_series(1, {RULES}) n;
    INSERT INTO rule_limits (rule_id, position, rate, window_seconds, counter)
        SELECT id, 0, 5, 60, 1 FROM ({MINE}) AS mine;
    {ANNOUNCED}
"""


def statuses(nodes: list[Node], key: str) -> set[int]:
    """Of checks with the key over connections of their own, which the kernel spreads over a node's workers."""
    headers, check = {"X-API-Key": key}, {"client_id": "holder", "cost": 0}
    return {
        requests.post(f"{node.url}/v1/check", json=check, headers=headers, timeout=30).status_code
        for node in nodes
        for _ in range(4)
    }


@pytest.mark.fault(22, f"{KEYS} keys are made and revoked, through either node")
def test_new_and_revoked_keys_are_soon_known_everywhere(nodes: list[Node], sql: Sql, measured: Figures) -> None:
    """Every worker of every node takes a new key, and refuses a revoked key, within a second."""
    made, revoked = [], []
    for number in range(KEYS):
        node = nodes[number % 2]
        key = node.request("POST", API_KEYS, json={"name": "fleeting", "scopes": ["check"]}).json()
        made.append(seconds_until(nodes, sql(VERSION)[0][0]))
        assert statuses(nodes, key["key"]) == {200}
        assert node.request("DELETE", f"{API_KEYS}/{key['id']}").status_code == 204
        revoked.append(seconds_until(nodes, sql(VERSION)[0][0]))
        assert statuses(nodes, key["key"]) == {401}
    measured.update(soon(made, "new keys known") | soon(revoked, "revoked keys refused"))
    assert statistics.median(made + revoked) < 1


@pytest.mark.fault(22, f"{RULES:,} rules change at once, under load on two nodes")
def test_thousands_of_changed_rules_hold_up_no_check(nodes: list[Node], sql: Sql, measured: Figures) -> None:
    """Every worker soon uses all of them, and no check fails meanwhile."""
    sql(FILL)
    seconds_until(nodes, sql(VERSION)[0][0])
    spans = []
    with Load(nodes, {"client_id": "many-1", "cost": 0}) as load:
        for change in range(CHANGES):
            assert nodes[0].eventually(lambda change=change: len(load.answers) > (change + 1) * ANSWERS)
            sql(f"UPDATE rule_limits SET rate = rate + 1 WHERE rule_id IN ({MINE}); {ANNOUNCED}")
            began = time.monotonic()
            spans.append((began, began + seconds_until(nodes, sql(VERSION)[0][0])))
    assert load.errors == []
    assert load.statuses == {200}
    assert nodes[0].check("many-1", cost=0)["limit"] == 5 + CHANGES
    meanwhile = [any(begin <= answer.began <= end for begin, end in spans) for answer in load.answers]
    measured.update(soon([end - begin for begin, end in spans]))
    for what, told in (("before", False), ("meanwhile", True)):
        waits = [answer.seconds for answer, during in zip(load.answers, meanwhile, strict=True) if during == told]
        measured[f"checks {what}, p99 ms"] = round(percentile(waits, 99) * 1e3, 1)
    sql(f"DELETE FROM rules WHERE client_id LIKE 'many-%'; {ANNOUNCED}")
    seconds_until(nodes, sql(VERSION)[0][0])


@contextmanager
def still(node: Node) -> Iterator[None]:
    """All of its processes are stopped, as with a machine that is being moved."""
    stopped = [node.pid, *node.workers]
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)


@pytest.mark.fault(
    24, "a restored PostgreSQL is changed once; its version number is then that of a node that was paused meanwhile"
)
def test_a_restored_database_is_another_one_though_its_version_is_known(
    nodes: list[Node], sql: Sql, own_database: str, postgres: Postgres, tmp_path: Path, measured: Figures
) -> None:
    """That node uses the restored rules soon after it goes on, and refuses the key that the change revoked."""
    here, there = nodes
    key = here.request("POST", API_KEYS, json={"name": "restored", "scopes": ["check"]}).json()
    here.put_rule(client_id="restored", rate=5, window=60)
    dump = tmp_path / "dump"

    def run(program: str, *words: str) -> None:
        subprocess.run([postgres.home.programs / program, *words, f"--dbname={own_database}"], check=True, timeout=60)

    run("pg_dump", "--format=custom", f"--file={dump}")
    here.put_rule(client_id="restored", rate=7, window=60)
    there.await_rules(here)
    assert there.check("restored", cost=0)["limit"] == 7
    [[version]] = sql(VERSION)
    with still(there):
        run("pg_restore", "--clean", "--if-exists", "--single-transaction", "--exit-on-error", str(dump))
        assert here.request("DELETE", f"{API_KEYS}/{key['id']}").status_code == 204
        assert sql(VERSION) == [(version,)]
    went_on = time.monotonic()
    assert there.eventually(lambda: {there.check("restored", cost=0)["limit"] for _ in range(8)} == {5})
    assert there.eventually(lambda: statuses(nodes, key["key"]) == {401})
    measured["decides by them after, s"] = round(time.monotonic() - went_on, 1)
