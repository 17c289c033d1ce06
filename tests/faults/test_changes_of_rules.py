"""Rules that change while two nodes of two workers each decide by them (rows 22 to 24 of the fault matrix)."""

from __future__ import annotations

import contextlib
import re
import statistics
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from tests.faults.conftest import Sql
from tests.support.faults import ALL, Figures
from tests.support.freshness import VERSION, seconds_until, soon
from tests.support.load import Load
from tests.support.node import ADMIN_KEY, Node

EDITS = 500 if ALL else 10  # by each of two writers
LISTENERS = "FROM pg_stat_activity WHERE query LIKE 'LISTEN rules;%' AND datname = current_database()"


def edit(number: int) -> dict[str, Any]:
    """A rule of two limits in which `number` shows four times in every answer's policies."""
    first = {"rate": 10_000 + number, "window": 3600 + number, "algorithm": "gcra"}
    second = {"rate": 50_000, "burst": 20_000 + number, "window": 7200 + number, "algorithm": "token_bucket"}
    return {"limits": [first, second]}


def edits_seen(policies: str) -> set[int]:
    found = re.findall(r"q=(\d+);w=(\d+)", policies)
    assert len(found) == 2, policies
    (q1, w1), (q2, w2) = ((int(q), int(w)) for q, w in found)
    return {q1 - 10_000, w1 - 3600, q2 - 20_000, w2 - 7200}


class Writer(threading.Thread):
    """Edits the shared rule through one node, and after each edit waits until all workers have it."""

    def __init__(self, node: Node, nodes: list[Node], first: int) -> None:
        super().__init__()
        self._url, self._nodes = f"{node.url}/v1/admin/rules", nodes
        self._numbers = range(first, first + EDITS)
        self.statuses: list[int] = []
        self.stored: dict[int, int] = {}  # version of the rule -> number of the edit
        self.seconds: list[float] = []

    def run(self) -> None:
        with requests.Session() as session:
            for number in self._numbers:
                rule = {"client_id": "edited"} | edit(number)
                headers = {"Authorization": f"Bearer {ADMIN_KEY}"}
                answer = session.post(self._url, json=rule, headers=headers, timeout=30)
                answered = time.monotonic()
                self.statuses.append(answer.status_code)
                self.stored[answer.json()["version"]] = number
                self._await(session, answer.json()["version"])
                self.seconds.append(time.monotonic() - answered)

    def _await(self, session: requests.Session, version: int) -> None:
        """Until every worker has read as many versions as this rule has: only this rule is edited meanwhile."""
        expected, deadline = self.before + version - 1, time.monotonic() + 15
        while time.monotonic() < deadline:
            shown = [session.get(f"{node.url}/metrics", timeout=30).text for node in self._nodes]
            versions = [float(re.search(r"^ratelimiter_rules_version (\S+)$", text, re.M)[1]) for text in shown]
            if min(versions) >= expected:
                return
            time.sleep(0.01)
        raise AssertionError(f"some worker stays at {min(versions)}, not at {expected}")

    before = 0


@pytest.mark.fault(22, f"{2 * EDITS:,} edits by two writers, under load on two nodes")
def test_edits_under_load_are_neither_torn_nor_lost_and_soon_everywhere(
    nodes: list[Node], sql: Sql, measured: Figures
) -> None:
    """Each is whole in every answer, none is lost, and every worker of every node uses it within a second."""
    nodes[0].put_rule(client_id="edited", **edit(0))
    Writer.before = sql(VERSION)[0][0]
    seconds_until(nodes, Writer.before)  # else the first answers of the other node are the default's
    writers = [Writer(node, nodes, 1 + place * EDITS) for place, node in enumerate(nodes)]
    with Load(nodes, {"client_id": "edited"}) as load:
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join(300)
    assert load.errors == []
    assert load.statuses == {200}
    assert {len(edits_seen(answer.headers["RateLimit-Policy"])) for answer in load.answers} == {1}  # none is torn
    assert not any(answer.json()["degraded"] for answer in load.answers)
    assert {status for writer in writers for status in writer.statuses} == {200}
    stored = writers[0].stored | writers[1].stored
    assert sorted(stored) == list(range(2, 2 + 2 * EDITS))  # each edit is a version of its own: none is lost
    last = nodes[1].request("POST", "/v1/check", key=None, json={"client_id": "edited"})
    assert edits_seen(last.headers["RateLimit-Policy"]) == {stored[1 + 2 * EDITS]}
    measured["checks"], measured["torn"], measured["lost"] = len(load.answers), 0, 0
    seconds = [second for writer in writers for second in writer.seconds]
    measured.update(soon(seconds))
    assert statistics.median(seconds) < 1


@pytest.mark.fault(23, "a change whose notification is lost")
def test_a_change_that_nobody_announces_is_everywhere_within_two_seconds(
    nodes: list[Node], sql: Sql, measured: Figures
) -> None:
    """Polling finds it: every worker uses the change within two seconds."""
    seconds = []
    for _ in range(3):
        sql("UPDATE rule_book SET version = version + 1")
        seconds.append(seconds_until(nodes, sql(VERSION)[0][0]))
    measured["slowest of three, s"] = round(max(seconds), 2)
    assert statistics.median(seconds) < 2


@pytest.mark.fault(23, "the connections that listen for changes are cut")
def test_listeners_that_were_cut_off_miss_a_change_and_listen_again(
    nodes: list[Node], sql: Sql, measured: Figures
) -> None:
    """The change they miss is found by polling, and they listen again."""
    assert nodes[0].eventually(lambda: sql(f"SELECT count(*) {LISTENERS}") == [(4,)])
    before = {pid for (pid,) in sql(f"SELECT pid {LISTENERS}")}
    sql(f"SELECT pg_terminate_backend(pid) {LISTENERS}")
    nodes[0].request("POST", "/v1/admin/rules", json={"client_id": "missed", "rate": 7, "window": 60})
    measured["everywhere after, s"] = round(seconds_until(nodes, sql(VERSION)[0][0]), 2)
    assert [node.check("missed")["limit"] for node in nodes for _ in range(4)] == [7] * 8
    assert nodes[0].eventually(lambda: sql(f"SELECT count(*) {LISTENERS}") == [(4,)])
    assert not before & {pid for (pid,) in sql(f"SELECT pid {LISTENERS}")}


@contextlib.contextmanager
def bad_row(sql: Sql) -> Iterator[None]:
    """A rule that no release can decide by, put in by hand past the constraint that forbids it, for as long as this."""
    [(name, check)] = sql(
        "SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint"
        " WHERE conrelid = 'rule_limits'::regclass AND conname LIKE '%algorithm'"
    )
    sql(f"ALTER TABLE rule_limits DROP CONSTRAINT {name}")
    [(rule_id,)] = sql("INSERT INTO rules (tenant_id, client_id) VALUES (1, 'bad*') RETURNING id")
    sql(
        "INSERT INTO rule_limits (rule_id, position, rate, window_seconds, algorithm, counter)"
        f" VALUES ({rule_id}, 0, 5, 60, 'leaky_bucket', 1)"
    )
    sql("UPDATE rule_book SET version = version + 1")
    yield
    sql(f"DELETE FROM rules WHERE id = {rule_id}")  # without a new version: what is refused is looked at again
    sql(f"ALTER TABLE rule_limits ADD CONSTRAINT {name} {check}")


@pytest.mark.fault(24, "a row that no release can use is put into the rules by hand")
def test_a_bad_row_is_refused_and_the_last_good_rules_decide(nodes: list[Node], sql: Sql, measured: Figures) -> None:
    """The last good rules decide, `/health` says so, one line is logged per worker; it heals when the row is gone."""
    good = nodes[0].put_rule(client_id="good", rate=9, window=60)
    seconds_until(nodes, sql(VERSION)[0][0])
    with bad_row(sql):
        for node in nodes:
            assert node.eventually(lambda node=node: refusals(node) == 2)  # one a worker
            health = node.request("GET", "/health", key=None).json()
            assert (health["status"], health["database_available"]) == ("degraded", True)
            assert health["rules_version"] < sql(VERSION)[0][0]
            assert node.check("good")["rule_id"] == good["id"]
            assert node.check("bad-1")["rule_id"] == "default"
            assert node.eventually(lambda node=node: node.metric("ratelimiter_rules_age_seconds") > 3)
            assert refusals(node) == 2  # not one a poll
            measured["lines logged per node"] = refusals(node)
    for node in nodes:
        assert node.eventually(lambda node=node: node.request("GET", "/health").json()["status"] == "healthy")
    seconds_until(nodes, sql(VERSION)[0][0])


def refusals(node: Node) -> int:
    return node.log.read_text().count("rules in the database cannot be used")
