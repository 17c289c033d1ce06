"""The shared connection: commands travel together, and nobody ever gets another's answer."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Iterator

import gevent
import pytest
import redis
from redis.exceptions import ConnectionError, TimeoutError

from app.limiter.errors import StoreBusy
from app.limiter.redis.connection import RedisConnection
from app.limiter.redis.packing import packed
from app.limiter.redis.socket import RedisSocket
from devstack import Valkey

SLOW_SECONDS = 20.0  # a timeout that a busy machine does not reach


class CountingWire(RedisSocket):
    writes = 0

    def send(self, data: bytes) -> None:
        type(self).writes += bool(data)
        super().send(data)


def link_to(valkey: Valkey, timeout_seconds: float = SLOW_SECONDS, max_waiting: int = 1000) -> RedisConnection:
    pool = redis.ConnectionPool.from_url(valkey.url, protocol=2, socket_timeout=timeout_seconds)

    def connect() -> RedisSocket:
        connection = pool.connection_class(**pool.connection_kwargs)
        connection.connect()
        return CountingWire(connection)

    return RedisConnection(
        connect=connect, timeout_seconds=timeout_seconds, max_waiting=max_waiting, clock=time.monotonic
    )


@pytest.fixture
def link(valkey: Valkey) -> Iterator[RedisConnection]:
    link = link_to(valkey)
    yield link
    link.drop()


def echo(link: RedisConnection, *words: bytes) -> list[bytes]:
    return link.call(b"".join(packed(b"ECHO", word) for word in words), len(words))


def test_a_lone_command_is_answered(link: RedisConnection) -> None:
    assert echo(link, b"alone") == [b"alone"]
    assert echo(link, b"one", b"two", b"three") == [b"one", b"two", b"three"]


def test_commands_of_one_turn_share_a_write_and_each_gets_its_own(link: RedisConnection) -> None:
    echo(link, b"connect")
    CountingWire.writes = 0
    words = [b"%d" % number for number in range(200)]
    greenlets = [gevent.spawn(echo, link, word) for word in words]
    gevent.joinall(greenlets, raise_error=True)
    assert [greenlet.value for greenlet in greenlets] == [[word] for word in words]
    assert CountingWire.writes == 1


def test_an_error_reply_is_its_callers_alone(link: RedisConnection) -> None:
    wrong = gevent.spawn(link.call, packed(b"NOSUCHCOMMAND"), 1)
    right = gevent.spawn(echo, link, b"right")
    gevent.joinall([wrong, right], raise_error=True)
    assert "unknown command" in str(wrong.value[0])
    assert right.value == [b"right"]


def test_large_commands_and_replies_pass_in_pieces(link: RedisConnection) -> None:
    big = bytes(range(256)) * 4 * 8192
    greenlets = [gevent.spawn(echo, link, big + b"%d" % number) for number in range(4)]
    gevent.joinall(greenlets, raise_error=True)
    assert [greenlet.value for greenlet in greenlets] == [[big + b"%d" % number] for number in range(4)]


def test_a_caller_that_was_killed_before_its_commands_left_sends_nothing(link: RedisConnection) -> None:
    killed = gevent.spawn(link.call, packed(b"RPUSH", b"of a killed caller", b"x"), 1)
    gevent.sleep(0)  # it waits, and the link is not connected yet
    killed.kill()
    assert link.call(packed(b"EXISTS", b"of a killed caller"), 1) == [0]


def test_beyond_the_bound_callers_are_refused_at_once(valkey: Valkey) -> None:
    link = link_to(valkey, max_waiting=3)
    greenlets = [gevent.spawn(echo, link, b"%d" % number) for number in range(5)]
    gevent.joinall(greenlets)
    assert [greenlet.value for greenlet in greenlets[:3]] == [[b"0"], [b"1"], [b"2"]]
    assert all(isinstance(greenlet.exception, StoreBusy) for greenlet in greenlets[3:])
    assert echo(link, b"room again") == [b"room again"]


def test_a_stopped_server_fails_all_who_wait_once_and_late_answers_reach_nobody(valkey: Valkey) -> None:
    link = link_to(valkey, timeout_seconds=0.05)
    patient = link_to(valkey)
    echo(patient, b"connect")
    assert echo_until(link, b"connect")
    os.kill(valkey.pid, signal.SIGSTOP)
    try:
        greenlets = [gevent.spawn(echo, link, b"late %d" % number) for number in range(20)]
        gevent.joinall(greenlets)
    finally:
        os.kill(valkey.pid, signal.SIGCONT)
    assert all(isinstance(greenlet.exception, TimeoutError) for greenlet in greenlets)
    assert echo(patient, b"the others waited") == [b"the others waited"]
    assert echo_until(link, b"mine") == [b"mine"]


def work(seconds: float) -> None:
    """Keeps the hub from its turn."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        pass


@pytest.fixture
def hasty(valkey: Valkey) -> Iterator[RedisConnection]:
    """A connected link that waits for 100 ms."""
    link = link_to(valkey, timeout_seconds=0.1)
    assert echo_until(link, b"connect")
    yield link
    link.drop()


def test_a_busy_hub_is_no_timeout_of_redis(hasty: RedisConnection) -> None:
    asked = gevent.spawn(echo, hasty, b"in time")
    gevent.sleep(0)  # sent
    gevent.sleep(0)
    work(0.2)  # the answer arrives while nobody looks
    asked.join()
    assert asked.value == [b"in time"]


def test_a_hub_that_was_busy_before_it_sent_is_none_either(hasty: RedisConnection) -> None:
    milliseconds = packed(b"EVAL", b"for _ = 1, 1000000 do end return 1", b"0")
    asked = gevent.spawn(hasty.call, milliseconds, 1)
    gevent.spawn(work, 0.2)  # in the same turn, so before anything was sent
    asked.join()
    assert asked.value == [1]


def test_nor_is_a_crowd_whose_turns_take_long(hasty: RedisConnection) -> None:
    def busy(word: bytes) -> list[bytes]:
        work(0.002)
        return echo(hasty, word)

    crowd = [gevent.spawn(busy, b"%d" % number) for number in range(200)]
    gevent.joinall(crowd)
    assert [each.value for each in crowd] == [[b"%d" % number] for number in range(200)]


def test_nor_is_what_the_socket_could_not_take_yet(hasty: RedisConnection) -> None:
    word = b"x" * 4 * 1024 * 1024  # more than both ends buffer
    asked = gevent.spawn(echo, hasty, word)
    gevent.sleep(0)  # begun to be sent
    gevent.sleep(0)
    work(0.2)
    asked.join()
    assert asked.value == [word]


def test_a_broken_connection_fails_those_on_it_and_is_replaced(link: RedisConnection, valkey: Valkey) -> None:
    number = link.call(packed(b"CLIENT", b"ID"), 1)[0]
    assert isinstance(number, int)
    waiting = gevent.spawn(link.call, packed(b"BLPOP", b"nothing ever comes", b"0"), 1)
    gevent.sleep(0.01)
    echo(link_to(valkey), b"connect")
    with redis.Redis.from_url(valkey.url) as admin:
        admin.client_kill_filter(_id=number)
    waiting.join()
    assert isinstance(waiting.exception, ConnectionError)
    assert echo(link, b"again") == [b"again"]


def test_chaos_mixes_up_no_answers(valkey: Valkey) -> None:
    """Greenlets killed, connections killed, the server paused, at random: every answer is its caller's own."""
    dice = random.Random(20261123)
    link = link_to(valkey, timeout_seconds=0.2)
    answered, failed = 0, 0

    def caller(name: int) -> None:
        nonlocal answered, failed
        for turn in range(200):
            words = [b"%d.%d.%d" % (name, turn, part) for part in range(dice.randint(1, 3))]
            try:
                assert echo(link, *words) == words
                answered += 1
            except (ConnectionError, TimeoutError):
                failed += 1

    def trouble() -> None:
        with redis.Redis.from_url(valkey.url) as admin:
            own = admin.client_id()
            while True:
                gevent.sleep(dice.random() / 50)
                if dice.random() < 0.3:
                    greenlets[dice.randrange(len(greenlets))].kill(block=False)
                elif dice.random() < 0.5:
                    for client in admin.client_list(_type="normal"):
                        if int(client["id"]) != own and client["lib-name"] == "redis-py":
                            admin.client_kill_filter(_id=client["id"])
                else:
                    admin.client_pause(dice.randint(1, 20))

    greenlets = [gevent.spawn(caller, name) for name in range(50)]
    troublemaker = gevent.spawn(trouble)
    gevent.joinall(greenlets)
    troublemaker.kill()
    assert all(greenlet.exception is None for greenlet in greenlets)
    assert answered > 1000
    assert failed > 0


def echo_until(link: RedisConnection, word: bytes) -> list[bytes]:
    """Ask until the machine is quick enough for the short timeout of a test."""
    for _ in range(100):
        try:
            return echo(link, word)
        except (ConnectionError, TimeoutError):
            continue
    raise AssertionError("no answer in a hundred tries")


@pytest.mark.parametrize("error", [ZeroDivisionError, gevent.Timeout])
def test_a_caller_that_ends_with_an_error_leaves_the_others_awake(
    link: RedisConnection, error: type[BaseException]
) -> None:
    """All answers come in one read; the first caller is a plain greenlet, whose error goes to the hub."""
    answers: list[bytes] = []

    def fails() -> None:
        echo(link, b"first")
        raise error

    def asks(word: bytes) -> None:
        answers.extend(echo(link, word))

    gevent.spawn_raw(fails)
    others = [gevent.spawn(asks, b"%d" % number) for number in range(5)]
    gevent.joinall(others, timeout=10, raise_error=True)
    assert answers == [b"%d" % number for number in range(5)]


SLOW = packed(b"EVAL", b"local n = 0 while n < 20000000 do n = n + 1 end return ARGV[1]", b"0", b"first")


def test_a_caller_whose_patience_ends_while_it_waits_hurts_nobody(link: RedisConnection) -> None:
    """Its own gevent.Timeout, or gunicorn's, is raised in the midst of others, whose answers come behind its own."""
    echo(link, b"connect")
    in_time: list[bytes] = []

    def impatient() -> bool:
        with gevent.Timeout(0.001, False):
            link.call(SLOW, 1)
            return False
        return True

    left = [gevent.spawn(impatient) for _ in range(3)]
    others = [gevent.spawn(lambda n=number: in_time.extend(echo(link, b"%d" % n))) for number in range(5)]
    gevent.joinall([*left, *others], timeout=SLOW_SECONDS, raise_error=True)
    assert [greenlet.value for greenlet in left] == [True] * 3
    assert in_time == [b"%d" % number for number in range(5)]
    assert echo(link, b"after") == [b"after"]
