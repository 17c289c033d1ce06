"""Logs why no request passes the proxy: the proxy often hides the answer that says so."""

from __future__ import annotations

import logging
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from app.api.auth import Principal
from app.api.forward_auth.identity import ClientIdentifier, Header
from app.api.problems import Problem

LOG_EVERY_SECONDS = 60.0
UNNAMED = "a request names no client in a way that AUTHORIZE_BY allows"  # the detail may show data that a client sent

log = logging.getLogger(__name__)


class LoggingClientIdentifier(ClientIdentifier):
    """A ClientIdentifier that logs refusals, at most one a minute for each status. `clock` is monotonic seconds."""

    def __init__(self, *, clock: Callable[[], float], **identifier: Any) -> None:
        super().__init__(**identifier)
        self._clock = clock
        self._silent_until: dict[int, float] = {}

    def client_id(self, peer: str, header: Header, key: Principal | None) -> str:
        try:
            return super().client_id(peer, header, key)
        except Problem as problem:
            self._log_refusal(problem)
            raise

    def groups(self, peer: str, header: Header) -> list[str]:
        try:
            return super().groups(peer, header)
        except Problem as problem:
            if problem.status == HTTPStatus.FORBIDDEN:
                self._log_refusal(problem)
            raise

    def _log_refusal(self, problem: Problem) -> None:
        now = self._clock()
        if now >= self._silent_until.get(problem.status, now):
            self._silent_until[problem.status] = now + LOG_EVERY_SECONDS
            why = problem.detail if problem.status == HTTPStatus.FORBIDDEN else UNNAMED
            log.warning("/v1/authorize answers %d, so requests do not pass: %s", problem.status, why)
