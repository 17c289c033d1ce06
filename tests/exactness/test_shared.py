"""Exact on shared limits: 200 clients of one organisation at once, through two nodes of three workers."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, nullcontext
from pathlib import Path

import psycopg2
import pytest
import redis

from app.limiter.keys import Keyspace, slot
from devstack import Valkey
from tests.support.burst import Burst
from tests.support.crowd import CASES, CLIENTS, ORG, Crowd, Read, ask, both, cluster_reader, reader, rules_of
from tests.support.matrix import SHARED, Figures
from tests.support.node import Node
from tests.support.topologies import ClusterGroup, cluster_group

LIMIT = ORG[0]
TIMES, TIMES_ON_A_CLUSTER = (100, 30) if SHARED.whole else (1, 1)
PLACES = range(len(CASES))
ON_A_CLUSTER = PLACES if SHARED.whole else [5, 7]  # two of the mixed ones
NOTHING = nullcontext()
PAUSE_SECONDS = 0.005  # of a slot on its way


def name_of(case: int) -> str:
    return ", ".join(dict.fromkeys(CASES[case]))


@pytest.fixture(scope="module")
def database(new_database: Callable[[str], str]) -> str:
    return new_database("shared_limits")


@pytest.fixture(scope="module")
def keyspace(database: str) -> Keyspace:
    with closing(psycopg2.connect(database)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT key_secret FROM rule_book")
        return Keyspace(bytes.fromhex(cursor.fetchall()[0][0]))


@contextmanager
def crowds_at(
    redis_url: str, read: Read, database: str, keyspace: Keyspace, tmp: pytest.TempPathFactory
) -> Iterator[tuple[list[Crowd], list[Burst]]]:
    """The crowd of each case, and their connections to two nodes. A slow moment is no fault of Redis."""
    patient = {"WEB_CONCURRENCY": 3, "REDIS_TIMEOUT_MS": 20_000, "BREAKER_FAILURES": 1_000_000}
    with ExitStack() as running:
        nodes = [
            running.enter_context(
                Node(redis_url=redis_url, database_url=database, data_dir=tmp.mktemp("node"), **patient)
            )
            for _ in range(2)
        ]
        crowds = [Crowd(case, [_put(nodes[0], rule) for rule in rules_of(case)], keyspace, read) for case in PLACES]
        nodes[0].await_rules()
        nodes[1].await_rules(nodes[0])
        yield crowds, running.enter_context(both(nodes))


def _put(node: Node, rule: dict[str, object]) -> int:
    answer = node.request("POST", "/v1/admin/rules", json=rule)
    assert answer.status_code in (200, 201), answer.text
    return int(answer.json()["id"])


Place = tuple[list[Crowd], list[Burst]]


@pytest.fixture(scope="module")
def on_one_server(
    valkey: Valkey, database: str, keyspace: Keyspace, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Place]:
    with (
        redis.Redis.from_url(valkey.url) as client,
        crowds_at(valkey.url, reader(client), database, keyspace, tmp_path_factory) as place,
    ):
        yield place


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, sockets: Path) -> Iterator[ClusterGroup]:
    with cluster_group(tmp_path_factory.mktemp("cluster"), sockets) as running:
        yield running


@pytest.fixture(scope="module")
def on_a_cluster(
    cluster: ClusterGroup, database: str, keyspace: Keyspace, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Place]:
    with (
        cluster_reader(cluster) as read,
        crowds_at(cluster.url, read, database, keyspace, tmp_path_factory) as place,
    ):
        yield place


class Seen:
    """What the bursts of a case showed, in units. `left`: in clients' own counters, by denials."""

    def __init__(self, crowd: Crowd, bursts: Sequence[Burst]) -> None:
        self._crowd, self._bursts = crowd, bursts
        self.number, self.most, self.left = 0, 0.0, 0.0

    def burst(self, number: int, meanwhile: AbstractContextManager[object] = NOTHING) -> None:
        crowd = self._crowd
        with meanwhile:
            asked = ask(crowd, number, self._bursts)
        assert not any(decision["degraded"] for decision in asked.decisions)
        admitted = [decision["allowed"] for decision in asked.decisions]
        assert sum(admitted) == LIMIT
        crowd.admitted += LIMIT
        self.number += 1
        self.most = max(self.most, asked.most[0])
        assert asked.most[0] <= LIMIT
        assert asked.most[1] <= crowd.admitted + CLIENTS  # on their way back
        self._charged(number, asked.seconds, admitted)

    def _charged(self, number: int, seconds: float, admitted: Sequence[bool]) -> None:
        """All answers are in: each counter has what was admitted. A bucket was refilled meanwhile, or that is left."""
        own, org, everyone = self._crowd.layers
        in_org, of_everyone, *theirs = self._crowd.units(number)
        assert in_org == pytest.approx(LIMIT, abs=org.slack * seconds)
        assert of_everyone == pytest.approx(
            self._crowd.admitted, abs=everyone.slack * (time.monotonic() - self._crowd.began)
        )
        for charged, allowed in zip(theirs, admitted, strict=True):
            assert allowed <= charged <= allowed + own.slack * seconds
        self.left = max(self.left, sum(theirs) - LIMIT)

    def figures(self) -> Figures:
        return {
            "bursts": self.number,
            "admitted in each": LIMIT,
            "most in the org's counter": round(self.most, 3),
            "most left by denials": round(self.left, 3),
        }


@pytest.mark.parametrize("case", PLACES, ids=name_of)
@pytest.mark.burst(1, "200 clients of one org at once, through 2 nodes of 3 workers; the org may have 50 units")
def test_exactly_the_limit_of_the_org_is_admitted(on_one_server: Place, case: int, measured: Figures) -> None:
    """Exactly the limit is admitted. The clients' own counters, the org's and that of everybody hold exactly what was
    admitted.
    """
    crowds, bursts = on_one_server
    seen = Seen(crowds[case], bursts)
    for number in range(TIMES):
        seen.burst(number)
    measured |= seen.figures()
    assert seen.left == 0


@pytest.mark.parametrize("case", ON_A_CLUSTER, ids=name_of)
@pytest.mark.burst(2, "the same on a cluster of three primaries")
def test_exactly_the_limit_of_the_org_is_admitted_on_a_cluster(
    on_a_cluster: Place, case: int, measured: Figures
) -> None:
    """The same. Of the buckets of denied clients, what would refill in the time of the burst may stay charged."""
    crowds, bursts = on_a_cluster
    seen = Seen(crowds[case], bursts)
    for number in range(TIMES_ON_A_CLUSTER):
        seen.burst(number)
    measured |= seen.figures()


@pytest.mark.parametrize("case", ON_A_CLUSTER, ids=name_of)
@pytest.mark.burst(3, "the same, while the slots of the org, of everybody and of a client move, key by key")
def test_exactly_the_limit_of_the_org_is_admitted_while_slots_move(
    on_a_cluster: Place, cluster: ClusterGroup, case: int, measured: Figures
) -> None:
    """The same as without moving slots. No check is degraded."""
    crowds, bursts = on_a_cluster
    seen, moved = Seen(crowds[case], bursts), 0
    for number in range(TIMES_ON_A_CLUSTER, 2 * TIMES_ON_A_CLUSTER):
        slots: list[int] = []
        seen.burst(number, moving(cluster, crowds[case].keys(number)[:3], slots))
        moved += len(slots)
    measured |= seen.figures() | {"slots moved": moved}


@contextmanager
def moving(cluster: ClusterGroup, keys: Sequence[bytes], moved: list[int]) -> Iterator[None]:
    """The slots of the keys move to the next primary, one after the other, until the end. `moved`: takes the slots."""
    end = threading.Event()

    def move() -> None:
        while not end.is_set():
            number = slot(keys[len(moved) % len(keys)])
            at = cluster.primaries.index(cluster.owner(number))
            cluster.move(number, cluster.primaries[(at + 1) % 3], lambda: threading.Event().wait(PAUSE_SECONDS))
            moved.append(number)

    thread = threading.Thread(target=move)
    thread.start()
    try:
        yield
    finally:
        end.set()
        thread.join()
