"""Checks that arrive in one event-loop turn are decided together, in one round trip to Redis.

The exception is a turn in which the circuit breaker is due to probe. One check is the probe and waits for a Redis that
may still hang; the others must not wait with it. Checks beyond MAX_TOGETHER are decided after the
loop has polled its sockets.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

import gevent

from app.api.check.handler import CheckHandler, Reply, Request
from app.api.problems import UNEXPECTED, Problem
from app.rules.sync.yielding import YIELD_SECONDS

MAX_TOGETHER = 100  # 100 checks take 40 ms with a tenant's most expensive patterns; larger batches save little

log = logging.getLogger(__name__)

Waiter = TypeVar("Waiter")
Pending = tuple[Waiter, Request]


class CheckCoalescer(Generic[Waiter]):
    """Belongs to one worker. `answered` gets all waiters of an event-loop turn, and their replies in the same order."""

    def __init__(
        self, handler: CheckHandler, answered: Callable[[Sequence[Pending[Waiter]], Sequence[Reply]], None]
    ) -> None:
        self._handler = handler
        self._answered = answered
        self._pending: list[Pending[Waiter]] = []

    def add(self, waiter: Waiter, request: Request) -> None:
        """Answer the check at the end of this event-loop turn; a single check waits for no other."""
        if not self._pending:
            gevent.spawn_raw(self._decide)
        self._pending.append((waiter, request))

    def _decide(self) -> None:
        pending, self._pending = self._pending[:MAX_TOGETHER], self._pending[MAX_TOGETHER:]
        if self._pending:
            gevent.spawn_later(YIELD_SECONDS, self._decide)
        if len(pending) > 1 and self._probe_due():
            for one in pending:  # only the first waits for the probe
                gevent.spawn_raw(self._answer, [one])
        else:
            self._answer(pending)

    def _probe_due(self) -> bool:
        try:
            return self._handler.probe_due
        except Exception:  # a bug must not leave the waiters without an answer
            log.exception("cannot find out whether the breaker should probe")
            return False

    def _answer(self, pending: Sequence[Pending[Waiter]]) -> None:
        requests = [request for _, request in pending]
        try:
            replies = self._handler.handle_checks(requests)
        except Exception:
            replies = [unexpected(self._handler, request) for request in requests]
        self._answered(pending, replies)


def unexpected(handler: CheckHandler, request: Request) -> Reply:
    """The answer to an unexpected exception, which is being handled: it is logged in full, and the answer hides it."""
    reply = handler.refuse(Problem(500, UNEXPECTED), request.correlation_id)
    log.exception("cannot answer a check")
    return reply
