"""Random sequences of calls, results, deaths and time, on three workers of one node."""

from __future__ import annotations

from typing import Any

import gevent
import pybreaker
from gevent.event import AsyncResult
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from app.limiter.breaker.breaker import JITTER, Breaker
from app.limiter.breaker.shared_state import Circuit
from tests.support.examples import examples

RESET_SECONDS, LEASE_SECONDS, FAILURES = 60, 5, 3


class Down(Exception):
    pass


class Excluded(Exception):
    pass


class Heard(pybreaker.CircuitBreakerListener):
    def __init__(self) -> None:
        self.states = [pybreaker.STATE_CLOSED]

    def state_change(self, cb: Any, old_state: Any, new_state: Any) -> None:
        assert old_state.name == self.states[-1]
        self.states.append(new_state.name)


def result_of(worker: Breaker, gate: AsyncResult) -> Any:
    """Of a call that ends when the gate says so: what it returned or raised."""
    try:
        return worker.call(gate.get)
    except Exception as error:
        return error


class Node(RuleBasedStateMachine):
    """`calls` are in flight: the greenlet, what lets it end, whether it is the probe."""

    def __init__(self) -> None:
        super().__init__()
        self.now, self.heard = 1000.0, Heard()
        circuit = Circuit()
        self.workers = [
            Breaker(
                circuit=circuit,
                failures=FAILURES,
                reset_seconds=RESET_SECONDS,
                probe_timeout_seconds=LEASE_SECONDS,
                clock=lambda: self.now,
                exclude=[Excluded],
                listeners=[self.heard],
            )
            for _ in range(3)
        ]
        self.calls: list[tuple[gevent.Greenlet, AsyncResult]] = []
        self.dead: list[gevent.Greenlet] = []
        self.probe: gevent.Greenlet | None = None
        self.nobody_before = 0.0

    @rule(worker=st.integers(0, 2))
    def begin(self, worker: int) -> None:
        before = self.workers[worker].current_state
        gate = AsyncResult()
        greenlet = gevent.spawn(result_of, self.workers[worker], gate)
        gevent.sleep(0)
        if not greenlet.dead:
            self.calls.append((greenlet, gate))
            if before != pybreaker.STATE_CLOSED:
                assert self.now >= self.nobody_before, "a second probe, or one before its time"
                self.probe, self.nobody_before = greenlet, self.now + LEASE_SECONDS
        else:
            assert isinstance(greenlet.value, pybreaker.CircuitBreakerError)
            assert before != pybreaker.STATE_CLOSED
            jitter = JITTER * RESET_SECONDS if before == pybreaker.STATE_OPEN else 0
            assert self.now < self.nobody_before + jitter, "nobody may probe"

    @precondition(lambda self: self.calls)
    @rule(place=st.integers(0), result=st.sampled_from(["success", Down(), Down(), Down(), Excluded(), "killed"]))
    def end(self, place: int, result: Any) -> None:
        greenlet, gate = self.calls.pop(place % len(self.calls))
        before = self.workers[0].current_state
        if result == "killed":
            greenlet.kill()
        elif isinstance(result, Exception):
            gate.set_exception(type(result)())
        else:
            gate.set(result)
        greenlet.join()
        self._expect(before, greenlet is self.probe, result)

    def _expect(self, before: str, is_probe: bool, result: Any) -> None:
        after = self.workers[0].current_state
        if is_probe:
            self.probe = None
            if isinstance(result, Excluded) or result == "killed":
                assert after == pybreaker.STATE_HALF_OPEN
                self.nobody_before = 0.0
            else:
                assert after == (pybreaker.STATE_CLOSED if result == "success" else pybreaker.STATE_OPEN)
        elif before != pybreaker.STATE_CLOSED:
            assert after == before, "a late result changed the state"
        if after == pybreaker.STATE_OPEN != before:
            self.nobody_before = self.now + RESET_SECONDS * (1 - JITTER)

    @precondition(lambda self: self.calls)
    @rule(place=st.integers(0))
    def die(self, place: int) -> None:
        self.dead.append(self.calls.pop(place % len(self.calls))[0])

    @rule(seconds=st.sampled_from([0.1, LEASE_SECONDS, RESET_SECONDS]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @invariant()
    def every_transition_was_heard_once(self) -> None:
        assert self.heard.states[-1] == self.workers[0].current_state

    def teardown(self) -> None:
        """Whatever has happened: once an interval has passed, one success closes it."""
        self.now += RESET_SECONDS
        self.workers[0].call(str)
        assert self.workers[1].status().state == "closed"
        gevent.killall([*self.dead, *[greenlet for greenlet, _ in self.calls]])


TestNode = Node.TestCase
TestNode.settings = settings(max_examples=examples(200), stateful_step_count=40, deadline=None)
