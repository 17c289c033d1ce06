"""The breaker, on a clock of its own. Two breakers on one circuit are what two workers of a node have."""

from __future__ import annotations

import gevent
import pybreaker
import pytest

from app.limiter.breaker.breaker import Breaker, Transitions
from app.limiter.breaker.shared_state import Circuit
from app.limiter.errors import StoreUnavailable
from tests.support.clock import Clock


class Excluded(Exception):
    pass


class Down(Exception):
    pass


@pytest.fixture
def clock() -> Clock:
    return Clock(1000.0)


LEASE_SECONDS = 1


@pytest.fixture
def circuit() -> Circuit:
    return Circuit()


@pytest.fixture
def pair(circuit: Circuit, clock: Clock) -> tuple[Breaker, Breaker]:
    def worker() -> Breaker:
        return Breaker(
            circuit=circuit,
            failures=3,
            reset_seconds=60,
            probe_timeout_seconds=LEASE_SECONDS,
            clock=clock,
            exclude=[Excluded],
            listeners=[Transitions()],
        )

    return worker(), worker()


@pytest.fixture
def breaker(pair: tuple[Breaker, Breaker]) -> Breaker:
    return pair[0]


@pytest.fixture
def other(pair: tuple[Breaker, Breaker]) -> Breaker:
    return pair[1]


def fail(error: type[BaseException] = Down) -> None:
    raise error


def failures(breaker: Breaker, times: int) -> None:
    for _ in range(times):
        with pytest.raises(Down):
            breaker.call(fail)


def open_until_probe(breaker: Breaker, clock: Clock) -> None:
    failures(breaker, 3)
    clock.now += 60


def test_it_opens_after_failures_in_a_row_and_refuses_at_once(breaker: Breaker) -> None:
    failures(breaker, 2)
    breaker.call(str)
    failures(breaker, 3)
    assert breaker.status().state == "open"
    assert 54 <= breaker.status().time_until_retry_seconds <= 60
    with pytest.raises(pybreaker.CircuitBreakerError):
        breaker.call(pytest.fail, "called while open")


def test_a_successful_probe_closes_and_a_failed_one_opens_again(breaker: Breaker, clock: Clock) -> None:
    open_until_probe(breaker, clock)
    failures(breaker, 1)
    assert breaker.status().state == "open"
    clock.now += 60
    breaker.call(str)
    assert breaker.status() == type(breaker.status())("closed", 0, 0.0)


def test_calls_do_not_wait_for_one_another(breaker: Breaker) -> None:
    together = []

    def call() -> None:
        together.append(1)
        gevent.sleep(0)
        assert len(together) == 50

    greenlets = [gevent.spawn(breaker.call, call) for _ in range(50)]
    gevent.joinall(greenlets, raise_error=True)


def test_an_excluded_error_proves_nothing(breaker: Breaker, clock: Clock) -> None:
    for _ in range(10):
        with pytest.raises(Excluded):
            breaker.call(fail, Excluded)
    assert breaker.status().state == "closed"
    open_until_probe(breaker, clock)
    with pytest.raises(Excluded):
        breaker.call(fail, Excluded)
    assert breaker.status().state == "half_open"
    breaker.call(str)
    assert breaker.status().state == "closed"


def test_a_killed_call_counts_for_nothing_and_frees_the_probe(breaker: Breaker, clock: Clock) -> None:
    open_until_probe(breaker, clock)
    with pytest.raises(gevent.GreenletExit):
        breaker.call(fail, gevent.GreenletExit)
    assert breaker.status().state == "half_open"
    breaker.call(str)
    assert breaker.status().state == "closed"


def test_a_result_from_before_the_change_is_ignored(breaker: Breaker) -> None:
    def slow_success() -> None:
        failures(breaker, 3)

    breaker.call(slow_success)
    assert breaker.status().state == "open"


def test_one_failure_that_meets_many_calls_counts_once(breaker: Breaker) -> None:
    lost = Down("the connection they shared")
    for cause in (lost, lost, lost, Down("another")):
        with pytest.raises(StoreUnavailable):
            breaker.call(fail_with, StoreUnavailable("unavailable", failure=cause))
    assert breaker.status().failure_count == 2


def fail_with(error: Exception) -> None:
    raise error


def test_workers_count_together_and_open_as_one(breaker: Breaker, other: Breaker) -> None:
    failures(breaker, 2)
    other.call(str)
    assert breaker.status().failure_count == 0
    failures(breaker, 2)
    failures(other, 1)
    assert breaker.status() == other.status()
    assert breaker.status().state == breaker.current_state == "open"
    with pytest.raises(pybreaker.CircuitBreakerError):
        breaker.call(pytest.fail, "called while open")


def test_one_probe_of_all_workers_and_it_closes_for_all(breaker: Breaker, other: Breaker, clock: Clock) -> None:
    open_until_probe(breaker, clock)

    def meanwhile() -> None:
        for worker in (other, breaker) * 10:
            assert worker.status().state == "half_open"
            with pytest.raises(pybreaker.CircuitBreakerError):
                worker.call(pytest.fail, "a second probe")

    breaker.call(meanwhile)
    for worker in (other, breaker):
        assert worker.status().state == "closed"
        worker.call(str)


def test_who_is_second_at_the_lock_does_not_probe(
    breaker: Breaker, other: Breaker, clock: Clock, circuit: Circuit
) -> None:
    open_until_probe(breaker, clock)
    free = circuit.lock

    class Taken:
        def __enter__(self) -> None:
            circuit.lock = free
            failures(other, 1)
            free.__enter__()

        def __exit__(self, *_: object) -> None:
            free.__exit__()

    circuit.lock = Taken()  # type: ignore[assignment]
    with pytest.raises(pybreaker.CircuitBreakerError):
        breaker.call(pytest.fail, "a second probe")
    assert breaker.status().failure_count == 4


def test_a_probe_that_never_reports_is_replaced_after_its_lease(breaker: Breaker, other: Breaker, clock: Clock) -> None:
    open_until_probe(breaker, clock)

    def lost() -> None:
        clock.now += LEASE_SECONDS
        failures(other, 1)
        raise Down

    with pytest.raises(Down):
        breaker.call(lost)
    assert breaker.status().state == "open"
    assert breaker.status().failure_count == 4  # the late failure of the first probe is not the second's


def test_a_late_success_of_a_lost_probe_closes_nothing(breaker: Breaker, other: Breaker, clock: Clock) -> None:
    open_until_probe(breaker, clock)

    def lost() -> None:
        clock.now += LEASE_SECONDS
        failures(other, 1)

    breaker.call(lost)
    assert other.status().state == "open"


def test_a_transition_is_logged_once_by_the_worker_that_made_it(
    breaker: Breaker, other: Breaker, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "app.limiter.breaker.breaker")
    open_until_probe(breaker, clock)
    for worker in (other, breaker) * 10:
        with pytest.raises(Excluded):
            worker.call(fail, Excluded)
    other.call(str)
    breaker.call(str)
    assert [record.getMessage() for record in caplog.records] == [
        "circuit breaker redis: closed -> open after 3 failures",
        "circuit breaker redis: open -> half-open after 3 failures",
        "circuit breaker redis: half-open -> closed after 0 failures",
    ]


def test_it_can_be_turned_by_hand_as_any_pybreaker(breaker: Breaker, other: Breaker) -> None:
    breaker.open()
    with pytest.raises(pybreaker.CircuitBreakerError):
        other.call(pytest.fail, "called while open")
    other.half_open()
    breaker.call(str)
    assert (other.current_state, other.state_number) == ("closed", 0)
    breaker.open()
    other.close()
    assert breaker.current_state == "closed"


def test_what_took_the_place_of_what_failed_is_probed_at_once(breaker: Breaker) -> None:
    assert not breaker.probe_soon()  # closed: nothing to do
    assert not breaker.probe_due
    breaker.open()
    with pytest.raises(pybreaker.CircuitBreakerError):
        breaker.call(str)
    assert breaker.probe_soon()
    assert breaker.probe_due
    breaker.call(str)
    assert breaker.status().state == "closed"
