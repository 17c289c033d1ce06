"""The breaker between real processes that were forked from one, as workers are."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pybreaker
import pytest

from app.limiter.breaker import node_lock
from app.limiter.breaker.breaker import Breaker
from app.limiter.breaker.node_lock import NodeLock
from app.limiter.breaker.shared_state import LEFT_SECONDS, MAX_CIRCUITS, OPEN, STATE, Circuit, Circuits
from tests.support.faults import Figures

WORKERS = 4
ROUNDS = 300
PATIENCE_SECONDS = 30
fork = multiprocessing.get_context("fork")


class Down(Exception):
    pass


def breaker_on(circuit: Circuit, failures: int, clock: Callable[[], float]) -> Breaker:
    return Breaker(circuit=circuit, failures=failures, reset_seconds=60, lease_seconds=5, clock=clock)


def run(*bodies: Callable[[], Any]) -> list[int | None]:
    """Each body in a process of its own, all at once; their exit codes."""
    processes = [fork.Process(target=body) for body in bodies]
    for process in processes:
        process.start()
    for process in processes:
        process.join(PATIENCE_SECONDS)
        process.kill()
        process.join()
    return [process.exitcode for process in processes]


def test_no_failure_is_lost_between_workers() -> None:
    circuit = Circuit()

    def worker() -> None:
        breaker = breaker_on(circuit, 10**6, lambda: 1.0)
        for _ in range(ROUNDS):
            with pytest.raises(Down):
                breaker.call(fail)

    assert run(*[worker] * WORKERS) == [0] * WORKERS
    assert circuit.failures == WORKERS * ROUNDS


def test_every_interval_one_worker_probes() -> None:
    """A failing probe keeps it open; time is the number of the round, so that all meet at each probe."""
    circuit, start, probes = Circuit(), fork.Barrier(WORKERS), fork.Value("i", 0)
    breaker_on(circuit, 1, lambda: 0.0).open()

    def probe() -> None:
        with probes.get_lock():
            probes.value += 1
        raise Down

    def worker() -> None:
        now = [0.0]
        breaker = breaker_on(circuit, 1, lambda: now[0])
        for _ in range(ROUNDS):
            now[0] += 100
            start.wait(PATIENCE_SECONDS)
            with pytest.raises((Down, pybreaker.CircuitBreakerError)):
                breaker.call(probe)

    assert run(*[worker] * WORKERS) == [0] * WORKERS
    assert probes.value == ROUNDS


def test_a_worker_killed_during_the_probe_holds_nobody_up_for_long() -> None:
    circuit, probing = Circuit(), fork.Event()
    breaker_on(circuit, 1, lambda: 0.0).open()

    def hang() -> None:
        probing.set()
        fork.Event().wait()

    probing_worker = fork.Process(target=lambda: breaker_on(circuit, 1, lambda: 100.0).call(hang))
    probing_worker.start()
    assert probing.wait(PATIENCE_SECONDS)
    probing_worker.kill()
    probing_worker.join()
    assert circuit.until == 105
    with pytest.raises(pybreaker.CircuitBreakerError):
        breaker_on(circuit, 1, lambda: 104.9).call(pytest.fail, "the lease is not over")
    breaker_on(circuit, 1, lambda: 105.0).call(str)
    assert breaker_on(circuit, 1, lambda: 105.0).status().state == "closed"


@contextmanager
def holder_of(lock: NodeLock) -> Iterator[int]:
    """The pid of a worker with the lock in its hand; killed at the end."""
    holding = fork.Event()

    def hold() -> None:
        with lock:
            holding.set()
            fork.Event().wait()

    holder = fork.Process(target=hold)
    holder.start()
    try:
        assert holding.wait(PATIENCE_SECONDS)
        yield holder.pid
    finally:
        holder.kill()
        holder.join()


def test_a_worker_killed_with_the_lock_in_hand_leaves_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node_lock, "PATIENCE_SECONDS", PATIENCE_SECONDS)
    circuit = Circuit()

    def take() -> None:
        with circuit.lock:
            pass

    waiting = fork.Process(target=take)
    with holder_of(circuit.lock):
        waiting.start()
        waiting.join(0.2)
        assert waiting.exitcode is None
    waiting.join(PATIENCE_SECONDS / 2)
    assert waiting.exitcode == 0


def test_a_worker_stopped_with_the_lock_in_hand_holds_nobody_up() -> None:
    circuit = Circuit()

    def worker() -> None:
        now = [0.0]
        breaker = breaker_on(circuit, 2, lambda: now[0])
        for _ in range(2):
            with pytest.raises(Down):
                breaker.call(fail)
        assert breaker.status().state == "open"
        for _ in range(ROUNDS):  # one of them all may wait, else this takes a minute
            now[0] += 100
            with pytest.raises(Down):
                breaker.call(fail)
            with pytest.raises(pybreaker.CircuitBreakerError):
                breaker.call(pytest.fail, "called while open")
        now[0] += 100
        breaker.call(str)
        assert breaker.status().state == "closed"

    with holder_of(circuit.lock) as pid:
        os.kill(pid, signal.SIGSTOP)
        assert run(worker) == [0]
    assert run(worker) == [0]


def fail() -> None:
    raise Down


def test_workers_find_the_same_circuit_by_its_name() -> None:
    """Each names others first, so that they meet in different orders."""
    circuits, start = Circuits(), fork.Barrier(WORKERS)

    def worker(number: int) -> None:
        start.wait(PATIENCE_SECONDS)
        for name in range(number, number + WORKERS):
            circuit = circuits.of(f"primary {name % WORKERS}", 0.0)
            with circuit.lock:
                circuit.failures += 1 + name % WORKERS

    assert run(*(partial(worker, number) for number in range(WORKERS))) == [0] * WORKERS
    failures = [circuits.of(f"primary {number}", 0.0).failures for number in range(WORKERS)]
    assert failures == [WORKERS * (1 + number) for number in range(WORKERS)]


def test_more_names_than_there_is_room_for_share_circuits() -> None:
    circuits = Circuits()
    first = [circuits.of(f"primary {number}", 0.0) for number in range(MAX_CIRCUITS)]
    assert len(set(map(id, first))) == MAX_CIRCUITS
    assert circuits.of("one more", 9e9) is circuits.of("one more", 9e9)
    assert circuits.of("one more", 9e9) in first
    assert circuits.of("primary 0", 9e9) is first[0]


@pytest.mark.fault(10, f"the primaries of a cluster get other addresses, {4 * MAX_CIRCUITS:,} in the life of a node")
def test_circuits_of_addresses_that_left_are_free_again(measured: Figures) -> None:
    """Each has a circuit of its own, which begins closed."""
    circuits, shared = Circuits(), 0
    for turn in range(4 * MAX_CIRCUITS // 3 + 1):
        now = 1 + turn * (LEFT_SECONDS + 1)
        names = [f"primary {3 * turn + number}" for number in range(3)]
        found = [circuits.of(name, now) for name in names]
        shared += len(set(map(id, found))) < 3 or any(
            breaker_on(circuit, 1, lambda: 1.0).state_number for circuit in found
        )
        circuits.keep(names, now)
        assert circuits.in_use() == sorted(found, key=circuits._circuits.index)
        breaker_on(found[0], 1, lambda: 1.0).open()
    measured["circuits"], measured["shared with another, or begun open"] = MAX_CIRCUITS, shared
    assert shared == 0


def test_a_name_that_was_given_up_keeps_its_circuit_for_a_while() -> None:
    """Another worker may still use it."""
    circuits = Circuits()
    first = [circuits.of(f"primary {number}", 0.0) for number in range(MAX_CIRCUITS)]
    circuits.keep(["primary 1"], 1.0)
    assert circuits.in_use() == [first[1]]
    assert circuits.of("new", LEFT_SECONDS) in first  # shared: it is too early
    assert [circuits.of(f"primary {number}", LEFT_SECONDS) for number in (0, 7)] == [first[0], first[7]]
    reused = circuits.of("new", 2 + LEFT_SECONDS)
    assert reused in first
    assert reused not in (first[0], first[1], first[7])


def test_what_one_worker_has_met_is_in_use_on_the_whole_node() -> None:
    circuits = Circuits()

    def worker() -> None:
        breaker_on(circuits.of("a primary that nobody else has met", 1.0), 1, lambda: 1.0).open()
        circuits.announce()

    assert (circuits.in_use(), circuits.changes) == ([], 0)
    assert run(worker) == [0]
    assert [circuit.mark & STATE for circuit in circuits.in_use()] == [OPEN]
    assert circuits.changes == 1
