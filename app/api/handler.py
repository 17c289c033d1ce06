"""The whole behaviour of `/v1/check` and `/v1/check/batch`: bytes in, Reply out. Doors only adapt it to a server."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from opentelemetry.trace import Span, SpanKind

from app.api.auth import Authenticator, Credentials
from app.api.correlation import HEADER
from app.api.decoding import decode_batch, decode_check
from app.api.headers import Headers, decision_headers
from app.api.problems import CONTENT_TYPE, Problem
from app.limiter.decision import Decision
from app.limiter.errors import NotReady, Unavailable
from app.limiter.limiter import Limiter
from app.observability.logs import correlation_id as current_correlation_id
from app.observability.metrics import CHECK_DURATION
from app.observability.tracing import tracer

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Reply:
    """An HTTP answer in a server's own terms."""

    status: int
    headers: Headers
    body: bytes


class CheckHandler:
    """Decodes, authenticates, decides and encodes. `clock` is monotonic seconds."""

    def __init__(
        self,
        *,
        limiter: Limiter,
        authenticator: Authenticator,
        dialect: str,
        default_window: int,
        clock: Callable[[], float],
    ) -> None:
        self._limiter = limiter
        self._authenticator = authenticator
        self._dialect = dialect
        self._default_window = default_window
        self._clock = clock

    def handle_check(self, raw_body: bytes, credentials: Credentials, correlation_id: str) -> Reply:
        """Answer one check."""
        with _span("POST /v1/check", correlation_id) as span:
            reply = self._reply(self._check, raw_body, credentials, correlation_id)
            span.set_attribute("http.status_code", reply.status)
            return reply

    def handle_batch(self, raw_body: bytes, credentials: Credentials, correlation_id: str) -> Reply:
        """Answer a batch of checks."""
        with _span("POST /v1/check/batch", correlation_id) as span:
            reply = self._reply(self._batch, raw_body, credentials, correlation_id)
            span.set_attribute("http.status_code", reply.status)
            return reply

    def _reply(
        self,
        answer: Callable[[bytes, int], Reply],
        raw_body: bytes,
        credentials: Credentials,
        correlation_id: str,
    ) -> Reply:
        started = self._clock()
        current_correlation_id.set(correlation_id)
        try:
            principal = self._authenticator.principal(credentials, "check")
            reply = answer(raw_body, principal.tenant_id)
        except Problem as problem:
            reply = Reply(problem.status, [("Content-Type", CONTENT_TYPE), *problem.headers.items()], problem.body())
        reply.headers.append((HEADER, correlation_id))
        CHECK_DURATION.observe(self._clock() - started)
        return reply

    def _check(self, raw_body: bytes, tenant_id: int) -> Reply:
        check = decode_check(raw_body)
        answer = self._decide(tenant_id, [check])[0]
        if isinstance(answer, Unavailable):
            raise _as_problem(answer)
        if log.isEnabledFor(logging.DEBUG):
            log.debug("check of rule %s: %s", answer.rule.public_id, answer.reason)
        headers = decision_headers(answer, self._dialect, self._default_window)
        return Reply(200, [("Content-Type", "application/json"), *headers], _encode(self._shown(answer)))

    def _batch(self, raw_body: bytes, tenant_id: int) -> Reply:
        answers = self._decide(tenant_id, decode_batch(raw_body))
        results = [
            {"error": _as_problem(answer).document()} if isinstance(answer, Unavailable) else self._shown(answer)
            for answer in answers
        ]
        return Reply(200, [("Content-Type", "application/json")], _encode({"results": results}))

    def _decide(self, tenant_id: int, checks: list[Any]) -> list[Decision | Unavailable]:
        try:
            return self._limiter.check(tenant_id, checks)
        except NotReady:
            detail = "no rules are known yet: the database has not answered since the start"
            raise Problem(503, detail, headers={"Retry-After": "1"}) from None

    def _shown(self, decision: Decision) -> dict[str, Any]:
        limit = decision.limit
        return {
            "allowed": decision.allowed,
            "remaining": decision.remaining,
            "retry_after_ms": decision.retry_after_ms,
            "limit": decision.most_at_once,
            "window": limit.window if limit else self._default_window,
            "reset_at": decision.reset_at,
            "algorithm": limit.algorithm if limit else None,
            "rule_id": decision.rule.public_id,
            "reason": decision.reason,
            "degraded": decision.degraded,
        }


def _span(name: str, correlation_id: str) -> AbstractContextManager[Span]:
    method, _, path = name.partition(" ")
    attributes = {"http.method": method, "http.url": path, "correlation_id": correlation_id}
    return tracer.start_as_current_span(name, kind=SpanKind.SERVER, attributes=attributes)


def _as_problem(answer: Unavailable) -> Problem:
    return Problem(503, str(answer), headers={"Retry-After": str(answer.retry_after_seconds)})


def _encode(document: dict[str, Any]) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()
