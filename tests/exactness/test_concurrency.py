"""Exact under concurrency: 200 checks at once through several workers, and exactly the limit gets through."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.rules.rule import ALGORITHMS
from devstack import Valkey
from tests.support.burst import Burst
from tests.support.faults import Figures
from tests.support.node import Node

LIMIT, AT_ONCE, TIMES = 50, 200, 100
HOUR = 3600  # in the milliseconds of a burst no algorithm gives a unit of 50 an hour back


@pytest.fixture(scope="module")
def wide_node(valkey: Valkey, database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """Four workers; a patient Redis timeout, for a fallen-open check would be counted as admitted."""
    data_dir = tmp_path_factory.mktemp("wide")
    settings = {"WEB_CONCURRENCY": 4, "REDIS_TIMEOUT_MS": 20_000}
    with Node(redis_url=valkey.url, database_url=database_url, data_dir=data_dir, **settings) as node:
        for algorithm in ALGORITHMS:
            node.put_rule(client_id=f"burst {algorithm} *", rate=LIMIT, window=HOUR, algorithm=algorithm)
        yield node


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.fault(1, "none: 200 checks of one client at once, through four workers, a hundred times")
def test_exactly_the_limit_is_admitted_a_hundred_times_in_a_row(
    wide_node: Node, algorithm: str, measured: Figures
) -> None:
    """Exactly the limit is admitted, never a unit more or less."""
    with Burst(wide_node.port, AT_ONCE) as burst:
        for number in range(TIMES):
            decisions = burst.check(client_id=f"burst {algorithm} {number}")
            assert not any(decision["degraded"] for decision in decisions)
            admitted = [decision for decision in decisions if decision["allowed"]]
            assert len(admitted) == LIMIT
            assert sorted(decision["remaining"] for decision in admitted) == list(range(LIMIT))
    measured["bursts"], measured["too many or too few"] = TIMES, 0


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_leases_taken_at_once_grant_exactly_the_limit_and_take_back_exactly_what_comes_back(
    wide_node: Node, algorithm: str
) -> None:
    with Burst(wide_node.port, AT_ONCE) as burst:
        for number in range(2):
            body = json.dumps({"client_id": f"burst {algorithm} leased {number}", "permits": 3}).encode()
            granted = [json.loads(answer) for answer in burst.post([("/v1/leases", body)] * AT_ONCE)]
            assert sum(lease["granted"] for lease in granted) == LIMIT
            [last] = [lease for lease in granted if lease["granted"] == LIMIT % 3]
            path, unused = f"/v1/leases/{last['lease_id']}/return", json.dumps({"unused": 2}).encode()
            answers = [json.loads(answer) for answer in burst.post([(path, unused)] * AT_ONCE)]
            assert {answer["returned"] for answer in answers} == {2}
            assert sum(decision["allowed"] for decision in burst.check(client_id=json.loads(body)["client_id"])) == 2


def test_the_burst_reaches_several_workers(wide_node: Node) -> None:
    """Otherwise the test above would prove little."""
    pids = set()
    with Burst(wide_node.port, AT_ONCE):
        for pid in wide_node.workers:
            sockets = [fd for fd in Path(f"/proc/{pid}/fd").iterdir() if fd.is_symlink()]
            if len(sockets) > AT_ONCE // 10:
                pids.add(pid)
    assert len(pids) >= 2
