"""Processes that decide by leases: what they admit together, and what becomes of their permits and of the service."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from devstack import Valkey
from tests.support.holder import Holder
from tests.support.node import Node

Start = Callable[..., Holder]

LIMIT = 100_000


@pytest.fixture
def start(node: Node) -> Iterator[Start]:
    """Starts a holder, until the end of the test."""
    with ExitStack() as running:

        def starter(client_id: str, url: str = node.url, **options: Any) -> Holder:
            return running.enter_context(Holder(url, client_id, **{"size": 100, "ttl": 60} | options))

        yield starter


def left(node: Node, client_id: str) -> int:
    remaining: int = node.check(client_id, cost=0)["remaining"]
    return remaining


@pytest.mark.parametrize("options", [{}, {"gevent": True}], ids=["threads", "gevent"])
def test_four_processes_admit_exactly_what_is_charged_and_never_more_than_the_limit(
    node: Node, start: Start, options: dict[str, bool]
) -> None:
    client_id = f"four {options}"
    node.put_rule(client_id=client_id, rate=LIMIT, window=9_000, algorithm="fixed_window")
    holders = [start(client_id, size=LIMIT // 100, **options) for _ in range(4)]
    assert [holder.check(0)["admitted"] for holder in holders] == [0] * 4  # now all are there
    for holder in holders:
        holder.begin(checks=LIMIT // 8, threads=4)
    answers = [holder.answer() for holder in holders]
    for holder in holders:
        holder.exit()
    admitted = [answer["admitted"] for answer in answers]
    assert sum(admitted) == LIMIT - left(node, client_id)
    assert all(admitted)
    assert not any(answer["undecided"] for answer in answers)
    assert node.metric(f'ratelimiter_lease_permits_granted_total{{client_id="{client_id}",endpoint="*"}}') > LIMIT / 2


def test_what_a_killed_holder_had_counts_as_used(node: Node, start: Start) -> None:
    node.put_rule(client_id="killed", rate=1_000, window=9_000, algorithm="fixed_window")
    holder, other = start("killed"), start("killed")
    assert holder.check(150)["admitted"] == 150
    charged = 1_000 - left(node, "killed")
    assert charged > 150
    holder.kill()
    assert other.check(2_000)["admitted"] == 1_000 - charged
    assert left(node, "killed") == 0


def test_what_a_holder_has_when_it_exits_is_there_for_others_at_once(node: Node, start: Start) -> None:
    node.put_rule(client_id="exited", rate=1_000, window=9_000, algorithm="fixed_window")
    holder, other = start("exited"), start("exited")
    assert holder.check(150)["admitted"] == 150
    holder.exit()
    assert left(node, "exited") == 850
    assert other.check(2_000)["admitted"] == 850


@pytest.fixture
def doomed(valkey: Valkey, database_url: str, tmp_path: Path) -> Iterator[Node]:
    with Node(redis_url=valkey.url, database_url=database_url, data_dir=tmp_path, WEB_CONCURRENCY=1) as node:
        node.put_rule(client_id="doomed", rate=1_000, window=9_000, algorithm="fixed_window")
        yield node


def test_while_the_service_hangs_permits_are_used_to_their_end_then_the_fail_mode_decides(
    doomed: Node, start: Start
) -> None:
    holder = start("doomed", doomed.url, timeout=0.5)
    assert holder.check(150)["undecided"] == 0
    out = 1_000 - left(doomed, "doomed") - 150
    assert out > 1
    for pid in doomed.workers:
        os.kill(pid, signal.SIGSTOP)
    try:
        assert holder.check(out // 2) == {"admitted": out // 2, "undecided": 0}
        holder.begin(checks=0, seconds=60)
        holder.answer()
        assert holder.check(10) == {"admitted": 0, "undecided": 10}
    finally:
        for pid in doomed.workers:
            os.kill(pid, signal.SIGCONT)
    assert doomed.eventually(lambda: holder.check(10)["admitted"] == 10)
    doomed.kill()
    assert doomed.eventually(lambda: holder.check(100) == {"admitted": 0, "undecided": 100})
