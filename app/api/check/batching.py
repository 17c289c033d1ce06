"""Checks that come in one turn of the event loop are decided together: in one walk through the code, and one trip.

But for the turn in which the circuit breaker is due to probe: one check is the probe, and waits for a Redis that may
still hang; the others must not. Of more than MOST checks the rest is decided after the loop has looked at its sockets.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

import gevent

from app.api.check.handler import CheckHandler, Reply, Request
from app.api.problems import UNEXPECTED, Problem
from app.rules.yielding import REST_SECONDS

MOST = 100  # that a tenant's dearest patterns make take 40 ms; further ones save little by being together

log = logging.getLogger(__name__)

Waiter = TypeVar("Waiter")
Pending = tuple[Waiter, Request]


class CheckBatcher(Generic[Waiter]):
    """Belongs to one worker. `answered` is given all askers of a turn, and their replies in the same order."""

    def __init__(
        self, handler: CheckHandler, answered: Callable[[Sequence[Pending[Waiter]], Sequence[Reply]], None]
    ) -> None:
        self._handler = handler
        self._answered = answered
        self._pending: list[Pending[Waiter]] = []

    def add(self, waiter: Waiter, request: Request) -> None:
        """Answer the check at the end of this turn: a lone one waits for nobody."""
        if not self._pending:
            gevent.spawn_raw(self._decide)
        self._pending.append((waiter, request))

    def _decide(self) -> None:
        pending, self._pending = self._pending[:MOST], self._pending[MOST:]
        if self._pending:
            gevent.spawn_later(REST_SECONDS, self._decide)
        if len(pending) > 1 and self._probe_due():
            for one in pending:  # the first waits, and nobody with him
                gevent.spawn_raw(self._answer, [one])
        else:
            self._answer(pending)

    def _probe_due(self) -> bool:
        try:
            return self._handler.probe_due
        except Exception:  # a bug must not leave the askers without an answer
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
    """The answer where the exception that is being handled is a bug: it is logged, and not told."""
    reply = handler.refuse(Problem(500, UNEXPECTED), request.correlation_id)
    log.exception("cannot answer a check")
    return reply
