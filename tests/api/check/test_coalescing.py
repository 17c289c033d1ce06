"""Checks of one turn of the event loop, while the breaker is due to probe a Redis that still hangs."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Callable, Sequence
from functools import partial
from types import SimpleNamespace

import gevent
from gevent.socket import wait_read

from app.api.auth import Credentials
from app.api.check.coalescing import MAX_TOGETHER, CheckCoalescer, Pending
from app.api.check.handler import CheckHandler, Reply, Request
from app.limiter.limiter import Limiter
from app.limiter.redis.store import RedisStore
from app.limiter.store import RuleSource
from app.rules.rule import default_rule
from app.rules.rule_book import RuleBook, Snapshot
from devstack import Valkey
from tests.support.clock import Clock
from tests.support.handlers import handler_of
from tests.support.limiters import breaker_of, limiter_of

CALLERS = 20


def until(holds: Callable[[], bool]) -> None:
    with gevent.Timeout(20):
        while not holds():
            gevent.sleep(0.001)


def handler_with(limiter: Callable[[RuleSource], Limiter]) -> CheckHandler:
    book = RuleBook(Snapshot(1, b"secret", ()), default=default_rule(100, 60), algorithm="gcra")
    rules: RuleSource = SimpleNamespace(book=book)
    return handler_of(rules, limiter(rules))


def request_of(caller: int) -> Request:
    body = json.dumps({"client_id": f"in a turn {caller}"}).encode()
    return Request(body, Credentials(None, None), "-")


def test_of_a_turn_one_waits_with_the_probe_and_the_others_are_answered(valkey: Valkey, store: RedisStore) -> None:
    clock, answered = Clock(), {}
    breaker = breaker_of(clock)
    assert store.ping()  # connected
    handler = handler_with(partial(limiter_of, store=store, breaker=breaker))

    def note(pending: Sequence[Pending[int]], replies: Sequence[Reply]) -> None:
        answered.update({waiter: json.loads(reply.body) for (waiter, _), reply in zip(pending, replies, strict=True)})

    turn = CheckCoalescer(handler, note)
    breaker.open()
    clock.now += 66
    os.kill(valkey.pid, signal.SIGSTOP)
    try:
        for caller in range(CALLERS):
            turn.add(caller, request_of(caller))
        until(lambda: len(answered) >= CALLERS - 1)
        assert sorted(answered) == list(range(1, CALLERS))
        assert all(decision["degraded"] for decision in answered.values())
        assert breaker.status().state == "half_open"
    finally:
        os.kill(valkey.pid, signal.SIGCONT)
    until(lambda: len(answered) == CALLERS)
    assert not answered[0]["degraded"]
    assert breaker.status().state == "closed"


def test_a_crowded_turn_is_cut_and_the_loop_looks_at_its_sockets_in_between(store: RedisStore) -> None:
    sizes: list[int] = []
    looked: list[int] = []
    answered: list[int] = []

    def note(pending: Sequence[Pending[int]], replies: Sequence[Reply]) -> None:
        sizes.append(len(pending))
        answered.extend(waiter for waiter, _ in pending)

    def look() -> None:
        wait_read(other.fileno())
        looked.append(len(sizes))

    turn = CheckCoalescer(handler_with(partial(limiter_of, store=store)), note)
    here, other = socket.socketpair()
    with here, other:
        here.send(b"ready")
        gevent.spawn(look)
        for caller in range(2 * MAX_TOGETHER + 1):
            turn.add(caller, request_of(caller))
        until(lambda: len(answered) > 2 * MAX_TOGETHER)
    assert sizes == [MAX_TOGETHER, MAX_TOGETHER, 1]
    assert answered == list(range(2 * MAX_TOGETHER + 1))
    assert looked[0] < 2
