"""Only Redis can be silent: whatever this worker does, or is kept from doing, Redis is judged by Redis alone."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import gevent
import pytest
import redis
from redis.exceptions import ConnectionError, TimeoutError

from app.limiter.redis.connection import MAX_WORK_US, RedisConnection
from app.limiter.redis.packing import packed
from app.limiter.redis.socket import RedisSocket
from devstack import Valkey
from tests.limiter.redis.test_connection import echo, echo_until, link_to, work
from tests.support.node import ROOT

TIMEOUT_SECONDS = 0.1


@pytest.fixture
def hasty(valkey: Valkey) -> Iterator[RedisConnection]:
    """A connected link that waits for a tenth of a second."""
    link = link_to(valkey, TIMEOUT_SECONDS)
    assert echo_until(link, b"connect")
    yield link
    link.drop()


def test_a_caller_that_works_on_its_answer_is_no_silence(hasty: RedisConnection) -> None:
    """The timer looks into the socket, finds an answer, and its caller works for longer than the timeout, while
    the answer to a command that was sent just before arrives."""

    def busy() -> list[bytes]:
        answer = echo(hasty, b"first")
        work(2 * TIMEOUT_SECONDS)
        return answer

    first = gevent.spawn(busy)
    gevent.sleep(0)  # sent
    gevent.sleep(0)
    work(1.5 * TIMEOUT_SECONDS)  # the timer is due
    milliseconds = packed(b"EVAL", b"for _ = 1, 1000000 do end return 1", b"0")
    second = gevent.spawn(hasty.call, milliseconds, 1)
    gevent.joinall([first, second], raise_error=True)
    assert (first.value, second.value) == ([b"first"], [1])


STOPPED = """
import random, sys, time
import gevent
from app.limiter.redis.store import connect
from app.limiter.redis.packing import packed
link = connect(sys.argv[1], timeout_ms=100, clock=time.monotonic)
failures = []
def ask(name):
    for turn in range(int(sys.argv[2])):
        word = b"%d.%d" % (name, turn)
        try:
            assert link.call(packed(b"ECHO", word), 1) == [word]
        except Exception as error:
            failures.append(repr(error))
while True:
    try:
        link.call(packed(b"PING"), 1)
        break
    except Exception:
        pass
print("connected", flush=True)
gevent.joinall([gevent.spawn(ask, name) for name in range(20)])
print(failures[:3], len(failures), flush=True)
"""


def test_a_worker_that_is_stopped_again_and_again_finds_redis_healthy(valkey: Valkey) -> None:
    dice = random.Random(20261130)
    command = [sys.executable, "-c", STOPPED, valkey.url, "1500"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "connected\n"
        stops = 0
        while worker.poll() is None and stops < 20:
            time.sleep(dice.random() / 50)
            worker.send_signal(signal.SIGSTOP)
            time.sleep(1.5 * TIMEOUT_SECONDS)
            worker.send_signal(signal.SIGCONT)
            stops += 1
        assert worker.stdout.readline() == "[] 0\n"
    assert stops > 3


def test_a_machine_that_stood_still_gives_redis_time_to_answer(valkey: Valkey) -> None:
    """Worker and Redis stop alike: the look that comes first finds nothing, and proves nothing."""
    link = link_to(valkey, 0.5)
    assert echo_until(link, b"connect")
    os.kill(valkey.pid, signal.SIGSTOP)
    try:
        asked = gevent.spawn(echo, link, b"late")
        gevent.sleep(0)  # sent
        gevent.sleep(0)
        work(1)
    finally:
        os.kill(valkey.pid, signal.SIGCONT)
    asked.join()
    assert asked.value == [b"late"]


def test_a_step_of_connecting_for_which_this_worker_was_held_up_is_taken_again(valkey: Valkey) -> None:
    steps: list[float] = []

    def connect() -> RedisSocket:
        steps.append(time.monotonic())
        if len(steps) == 1:
            work(2 * 0.5)
            raise TimeoutError("the timer went off first")
        return wire_to(valkey)

    link = RedisConnection(connect=connect, timeout_seconds=0.5, max_waiting=9, clock=time.monotonic)
    assert echo(link, b"connected") == [b"connected"]
    assert len(steps) == 2


def test_slow_steps_before_one_that_times_out_hold_no_worker_up() -> None:
    """They are Redis's, and so is the timeout: connecting is not begun again."""
    began: list[float] = []

    def connect() -> RedisSocket:
        began.append(time.monotonic())
        for _ in range(4):
            gevent.sleep(0.4)
        raise TimeoutError("the last step")

    link = RedisConnection(connect=connect, timeout_seconds=1, max_waiting=9, clock=time.monotonic)
    with pytest.raises(TimeoutError, match="the last step"):
        echo(link, b"anybody")
    assert len(began) == 1


def test_whatever_keeps_a_connection_from_being_made_is_told_to_all_who_wait() -> None:
    def connect() -> RedisSocket:
        "redis..svc".encode("idna")
        raise AssertionError

    link = RedisConnection(connect=connect, timeout_seconds=60, max_waiting=9, clock=time.monotonic)
    waiting = [gevent.spawn(echo, link, b"anybody") for _ in range(3)]
    gevent.joinall(waiting, timeout=10)
    assert all(isinstance(each.exception, ConnectionError) for each in waiting)


def test_a_caller_that_raises_takes_nobody_along(valkey: Valkey) -> None:
    link = link_to(valkey)
    echo(link, b"connect")
    answers: list[object] = []

    def raises() -> None:
        echo(link, b"first")
        raise RuntimeError("a bug of one caller")

    gevent.spawn_raw(raises)
    for name in range(3):
        gevent.spawn_raw(lambda name=name: answers.append(echo(link, b"%d" % name)))
    deadline = time.monotonic() + 10
    while len(answers) < 3 and time.monotonic() < deadline:
        gevent.sleep(0.01)
    assert answers == [[b"0"], [b"1"], [b"2"]]


def test_what_is_outstanding_in_redis_is_bounded_by_its_work(valkey: Valkey) -> None:
    link, outstanding = link_to(valkey), {0}
    echo(link, b"connect")
    words = [b"%d" % name for name in range(50)]
    crowd = [gevent.spawn(link.call, packed(b"ECHO", word), 1, MAX_WORK_US // 3) for word in words]
    while not all(each.ready() for each in crowd):
        gevent.sleep(0)
        outstanding.add(link._work_us)
    assert [each.value for each in crowd] == [[word] for word in words]
    assert 0 < max(outstanding) <= MAX_WORK_US
    assert link._work_us == 0
    # A single one passes, whatever it is.
    assert link.call(packed(b"ECHO", b"alone"), 1, 10 * MAX_WORK_US) == [b"alone"]


def test_a_silent_redis_fails_those_too_that_waited_for_their_turn(valkey: Valkey) -> None:
    link = link_to(valkey, TIMEOUT_SECONDS)
    assert echo_until(link, b"connect")
    os.kill(valkey.pid, signal.SIGSTOP)
    try:
        waiting = [gevent.spawn(link.call, packed(b"ECHO", b"x"), 1, MAX_WORK_US) for _ in range(10)]
        gevent.joinall(waiting, timeout=20)
    finally:
        os.kill(valkey.pid, signal.SIGCONT)
    assert all(isinstance(each.exception, TimeoutError) for each in waiting)


def test_a_flood_of_answers_leaves_the_loop_its_turns(valkey: Valkey) -> None:
    """A server that answers without end is read in pieces."""
    link = link_to(valkey)
    echo(link, b"connect")
    big = b"x" * 1_000_000
    asked = gevent.spawn(echo, link, *[big] * 20)
    turns = 0
    while not asked.ready():
        gevent.sleep(0)
        turns += 1
    assert asked.value == [big] * 20
    assert turns > 20


def wire_to(valkey: Valkey) -> RedisSocket:
    pool = redis.ConnectionPool.from_url(valkey.url, protocol=2, socket_timeout=20)
    connection = pool.connection_class(**pool.connection_kwargs)
    connection.connect()
    return RedisSocket(connection)
