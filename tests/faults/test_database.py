"""The database is stopped or hangs under checks, and comes back; nodes start without it (rows 20 and 21)."""

from __future__ import annotations

import itertools
import os
import signal
import statistics
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import psycopg2
import pytest
import requests

from devstack import Postgres, Valkey
from tests.conftest import flask
from tests.support.faults import Figures
from tests.support.load import Load
from tests.support.node import ADMIN_KEY, Node
from tests.support.processes import children

UNAVAILABLE_SECONDS = 2
TENANTS = "/v1/admin/tenants"
Change = tuple[str, str, dict[str, Any] | None]  # method, path, body


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory, sockets: Path) -> Iterator[Postgres]:
    own = sockets / "faults"
    own.mkdir()
    with Postgres(data_dir=tmp_path_factory.mktemp("faults") / "postgres", socket_dir=own, durable=False) as postgres:
        flask("db", "upgrade", database_url=postgres.url)
        yield postgres


@pytest.fixture(scope="module")
def node(database: Postgres, valkey: Valkey, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    data_dir = tmp_path_factory.mktemp("node")
    with Node(redis_url=valkey.url, database_url=database.url, data_dir=data_dir, REDIS_TIMEOUT_MS=5000) as running:
        yield running


def hang(database: Postgres) -> None:
    for pid in (database.pid, *children(database.pid)):
        os.kill(pid, signal.SIGSTOP)


def go_on(database: Postgres) -> None:
    for pid in (*children(database.pid), database.pid):
        os.kill(pid, signal.SIGCONT)


FAULTS = {"stopped": (Postgres.stop, Postgres.start), "hung": (hang, go_on)}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.fault(20, "PostgreSQL is stopped, or hangs (SIGSTOP), under load, and comes back (rows 20 and 21)")
def test_checks_do_not_notice_and_the_node_recovers_by_itself(
    node: Node, database: Postgres, fault: str, measured: Figures
) -> None:
    """Checks go on by the last good rules, none fails or degrades; changes answer 503; the node recovers by itself."""
    begin, end = FAULTS[fault]
    node.put_rule(client_id="unmoved", rate=1_000_000, window=3600)
    changes = changes_to_make(node, fault)
    before = shown(node)
    with Load([node], {"client_id": "unmoved"}) as load:
        measured["a change is refused after, s"] = round(during(begin, end, node, database, changes), 2)
        assert node.eventually(lambda: node.request("GET", "/health").json()["database_available"])
        assert shown(node) == before
        assert [node.request(*change, json=sent).status_code for *change, sent in changes] == [200, 200, 204]
        node.put_rule(client_id="unmoved", rate=2_000_000, window=3600)
    assert load.errors == []
    assert load.statuses == {200}
    decisions = [answer.json() for answer in load.answers]
    assert {decision["limit"] for decision in decisions} <= {1_000_000, 2_000_000}
    assert not any(decision["degraded"] for decision in decisions)
    measured["checks"], measured["failed"] = len(decisions), 0
    measured["slowest check, ms"] = round(max(answer.seconds for answer in load.answers) * 1e3)
    assert node.check("unmoved")["limit"] == 2_000_000


def changes_to_make(node: Node, name: str) -> list[Change]:
    """To roll a rule back, to switch it off, and to delete a tenant."""
    first = node.put_rule(client_id="changed", rate=1, window=60)
    node.put_rule(client_id="changed", rate=2, window=60)
    rule, tenant = f"/v1/admin/rules/{first['id']}", node.request("POST", TENANTS, json={"name": name}).json()
    return [
        ("POST", f"{rule}/rollback", {"version": first["version"]}),
        ("PATCH", rule, {"enabled": False}),
        ("DELETE", f"{TENANTS}/{tenant['id']}", None),
    ]


def shown(node: Node) -> list[Any]:
    """What changes would change: rules, tenants, and the audit."""
    return [node.request("GET", path).json() for path in ("/v1/admin/rules", TENANTS, "/v1/admin/audit")]


def during(
    begin: Callable[[Postgres], None],
    end: Callable[[Postgres], None],
    node: Node,
    database: Postgres,
    changes: list[Change],
) -> float:
    """What operators see of the fault; the seconds after which a change is refused."""
    begin(database)
    try:
        refused = [node.request(*change, json=sent) for *change, sent in changes]
        assert node.eventually(lambda: not node.request("GET", "/health").json()["database_available"])
        assert node.eventually(lambda: node.metric("ratelimiter_rules_age_seconds") > 1)
        assert node.request("GET", "/readyz").status_code == 200
    finally:
        end(database)
    assert [answer.status_code for answer in refused] == [503] * 3
    seconds = statistics.median(answer.elapsed.total_seconds() for answer in refused)
    assert seconds < UNAVAILABLE_SECONDS
    return seconds


class Changer(threading.Thread):
    """Rolls a rule back, switches it off and on, and deletes tenants, until it is told to stop."""

    def __init__(self, node: Node, rule: dict[str, Any]) -> None:
        super().__init__()
        self._url, self.path, self._version = node.url, f"/v1/admin/rules/{rule['id']}", rule["version"]
        self._stop_it = threading.Event()
        self.statuses: Counter[int] = Counter()
        self.versions: dict[int, bool] = {}  # that were answered: whether the rule is enabled
        self.deleted: list[int] = []

    def run(self) -> None:
        with requests.Session() as session:
            session.headers["Authorization"] = f"Bearer {ADMIN_KEY}"
            for number in itertools.count():
                if self._stop_it.is_set():
                    return
                self._change(session, number)

    def stop(self) -> None:
        self._stop_it.set()
        self.join(60)

    def _change(self, session: requests.Session, number: int) -> None:
        def ask(method: str, path: str, sent: dict[str, Any] | None = None) -> requests.Response:
            answer = session.request(method, self._url + path, json=sent, timeout=30)
            self.statuses[answer.status_code] += 1
            return answer

        if number % 3 == 2:
            made = ask("POST", TENANTS, {"name": f"fleeting-{number}"})
            if made.ok and ask("DELETE", f"{TENANTS}/{made.json()['id']}").ok:
                self.deleted.append(made.json()["id"])
            return
        if number % 3:
            answer = ask("POST", f"{self.path}/rollback", {"version": self._version})
        else:
            answer = ask("PATCH", self.path, {"enabled": False})
        if answer.ok:
            assert answer.json()["version"] not in self.versions
            self.versions[answer.json()["version"]] = answer.json()["enabled"]


@pytest.mark.fault(
    52, "PostgreSQL is killed (SIGKILL) twice while a rule is rolled back and switched off, and tenants are deleted"
)
def test_every_change_that_was_answered_is_in_the_history_once(
    node: Node, database: Postgres, measured: Figures
) -> None:
    """Every change that was answered with success stays, once; every other answer is 503. The node recovers by
    itself."""
    with closing(psycopg2.connect(database.url)) as connection, connection.cursor() as cursor:
        connection.autocommit = True
        cursor.execute("ALTER ROLE CURRENT_USER SET synchronous_commit = on")  # else PostgreSQL loses commits
        others = "backend_type = 'client backend' AND pid <> pg_backend_pid()"  # have it only when they connect again
        cursor.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {others}")
    changer = Changer(node, node.put_rule(client_id="survivor", rate=1, window=60))
    changer.start()
    try:
        for _ in range(2):
            known = len(changer.versions)
            assert node.eventually(lambda known=known: len(changer.versions) > known + 20)
            database.kill()
            refused = changer.statuses[503]
            assert node.eventually(lambda refused=refused: changer.statuses[503] > refused)
            database.start()
        known = len(changer.versions)
        assert node.eventually(lambda: len(changer.versions) > known)
    finally:
        changer.stop()
    history = node.request("GET", f"{changer.path}/versions").json()
    kept = {entry["version"]: entry for entry in history}
    measured["answered"], measured["refused"] = len(changer.versions) + len(changer.deleted), changer.statuses[503]
    measured["answered and lost"] = len(changer.versions.keys() - kept.keys())
    assert set(changer.statuses) <= {200, 201, 204, 503}
    assert measured["answered and lost"] == 0
    assert len(kept) == len(history)
    assert {tenant["id"] for tenant in node.request("GET", f"{TENANTS}?page_size=1000").json()}.isdisjoint(
        changer.deleted
    )
    assert node.eventually(lambda: node.request("GET", "/health").json()["status"] == "healthy")


def test_a_node_that_stops_right_after_a_change_has_saved_it(node: Node, database: Postgres) -> None:
    """And starts with it while the database is away."""
    answer = node.request("POST", "/v1/admin/rules", json={"client_id": "last", "rate": 7, "window": 60})
    assert answer.status_code == 201
    node.stop()
    database.stop()
    try:
        node.start()
        assert node.check("last")["limit"] == 7
        age = node.request("GET", "/health", key=None).json()["rules_age_seconds"]
        assert 0 < node.metric("ratelimiter_rules_age_seconds") < age + 60
    finally:
        database.start()
    assert node.eventually(lambda: node.request("GET", "/health").json()["status"] == "healthy")


@contextmanager
def without(directory: Path) -> Iterator[Path]:
    """A file is in its place, so that nothing can be saved there. Gives where it is meanwhile."""
    aside = directory.rename(f"{directory}-aside")
    directory.touch()
    yield aside
    directory.unlink()
    aside.rename(directory)


@pytest.mark.fault(
    21,
    "rules are changed while they cannot be saved; the file of the saved rules is damaged, then is another"
    " deployment's; nodes start without PostgreSQL",
)
def test_saved_rules_are_the_last_ones_whole_and_of_this_database(
    node: Node, database: Postgres, valkey: Valkey, measured: Figures
) -> None:
    """They are saved as soon as that is possible, a damaged file is repaired at the next start with PostgreSQL, and a
    node of another database does not decide by them."""
    place, rule = node.log.parent, {"client_id": "kept", "window": 60}
    saved = place / "rules.json"
    node.put_rule(**rule, rate=1000)
    assert node.eventually(lambda: saved.exists() and '"rate":1000,' in saved.read_text())
    with without(place) as aside:
        node.put_rule(**rule, rate=5)
        log = aside / node.log.name
        assert node.eventually(lambda: log.read_text().count("rules cannot be saved") == 2)  # a line a worker
    possible = time.monotonic()
    assert node.eventually(lambda: '"rate":5,' in saved.read_text())
    measured["saved after, s"] = round(time.monotonic() - possible, 1)
    whole = saved.read_text()
    node.kill()
    saved.write_text(whole.replace('"rate":5,', '"rate":6,'))
    node.start()
    assert node.eventually(lambda: saved.read_text() == whole)
    node.kill()
    database.stop()
    try:
        node.start()
        assert node.check("kept")["limit"] == 5
        assert node.request("GET", "/health", key=None).json()["saved_rules_age_seconds"] < 60
        elsewhere = {"redis_url": valkey.url, "database_url": database.url_of("elsewhere"), "data_dir": place}
        with Node(**elsewhere, WEB_CONCURRENCY=1) as other:
            assert other.request("GET", "/readyz", key=None).status_code == 503
            assert "the saved rules are not used: they are of " in other.log.read_text()
    finally:
        database.start()
