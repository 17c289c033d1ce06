"""The whole behaviour of `/v1/check` and `/v1/check/batch`: bytes in, Reply out. Doors only adapt it to a server."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

import msgspec
from opentelemetry.trace import SpanKind, get_current_span

from app.api import correlation
from app.api.auth import Authenticator, Credentials
from app.api.decoding import decode_batch, decode_check
from app.api.encoding import JSON, Encoder
from app.api.problems import CONTENT_TYPE, Problem
from app.limiter.decision import Check, Decision
from app.limiter.errors import NotReady, RequestIdConflict, Unavailable
from app.limiter.limiter import Answer, Limiter
from app.observability.logs import correlation_id as current_correlation_id
from app.observability.metrics import CHECK_DURATION
from app.observability.tracing import tracer

log = logging.getLogger(__name__)

HEADER = correlation.HEADER.encode()
CHECK, BATCH = "POST /v1/check", "POST /v1/check/batch"


class Reply(msgspec.Struct, frozen=True):
    """An HTTP answer. `head` is its header lines, each with its line end; what frames the body is the door's to add."""

    status: int
    head: bytes
    body: bytes

    @property
    def headers(self) -> list[tuple[str, str]]:
        lines = self.head.decode("latin-1").split("\r\n")[:-1]
        return [(name, value) for name, _, value in (line.partition(": ") for line in lines)]


class CheckHandler:
    """Decodes, authenticates, decides and encodes. `clock` is monotonic seconds; `traced`: spans are exported."""

    def __init__(
        self,
        *,
        limiter: Limiter,
        authenticator: Authenticator,
        encoder: Encoder,
        traced: bool,
        clock: Callable[[], float],
    ) -> None:
        self._limiter = limiter
        self._authenticator = authenticator
        self._encoder = encoder
        self._traced = traced
        self._clock = clock

    def handle_check(self, raw_body: bytes, credentials: Credentials, correlation_id: str) -> Reply:
        """Answer one check."""
        return self._reply(CHECK, self._check, raw_body, credentials, correlation_id)

    def handle_batch(self, raw_body: bytes, credentials: Credentials, correlation_id: str) -> Reply:
        """Answer a batch of checks."""
        return self._reply(BATCH, self._batch, raw_body, credentials, correlation_id)

    def refuse(self, problem: Problem, correlation_id: str) -> Reply:
        """The answer that a problem is."""
        current_correlation_id.set(correlation_id)
        lines = [("Content-Type", CONTENT_TYPE), *problem.headers.items()]
        head = "".join(f"{name}: {value}\r\n" for name, value in lines).encode("latin-1")
        return _signed(Reply(problem.status, head, problem.body()), correlation_id)

    def _reply(
        self,
        name: str,
        answer: Callable[[bytes, int], Reply],
        raw_body: bytes,
        credentials: Credentials,
        correlation_id: str,
    ) -> Reply:
        started = self._clock()
        current_correlation_id.set(correlation_id)
        with self._span(name, correlation_id):
            try:
                principal = self._authenticator.principal(credentials, "check")
                reply = _signed(answer(raw_body, principal.tenant_id), correlation_id)
            except Problem as problem:
                reply = self.refuse(problem, correlation_id)
            if self._traced:
                get_current_span().set_attribute("http.status_code", reply.status)
        CHECK_DURATION.observe(self._clock() - started)
        return reply

    def _check(self, raw_body: bytes, tenant_id: int) -> Reply:
        answer = self._decide(tenant_id, [decode_check(raw_body)])[0]
        if not isinstance(answer, Decision):
            raise _as_problem(answer)
        if log.isEnabledFor(logging.DEBUG):
            log.debug("check of rule %s: %s", answer.plan.rule.public_id, answer.reason)
        return Reply(200, self._encoder.head(answer), self._encoder.body(answer))

    def _batch(self, raw_body: bytes, tenant_id: int) -> Reply:
        results = [
            self._encoder.body(answer)
            if isinstance(answer, Decision)
            else json.dumps({"error": _as_problem(answer).document()}).encode()
            for answer in self._decide(tenant_id, decode_batch(raw_body))
        ]
        return Reply(200, JSON, b'{"results":[%b]}' % b",".join(results))

    def _decide(self, tenant_id: int, checks: Sequence[Check]) -> list[Answer]:
        try:
            return self._limiter.check(tenant_id, checks)
        except NotReady:
            detail = "no rules are known yet: the database has not answered since the start"
            raise Problem(503, detail, headers={"Retry-After": "1"}) from None

    def _span(self, name: str, correlation_id: str) -> AbstractContextManager[object]:
        if not self._traced:
            return nullcontext()
        method, _, path = name.partition(" ")
        attributes = {"http.method": method, "http.url": path, "correlation_id": correlation_id}
        return tracer.start_as_current_span(name, kind=SpanKind.SERVER, attributes=attributes)


def _signed(reply: Reply, correlation_id: str) -> Reply:
    return Reply(reply.status, b"%b%b: %b\r\n" % (reply.head, HEADER, correlation_id.encode()), reply.body)


def _as_problem(answer: Unavailable | RequestIdConflict) -> Problem:
    if isinstance(answer, RequestIdConflict):
        return Problem(409, str(answer))
    return Problem(503, str(answer), headers={"Retry-After": str(answer.retry_after_seconds)})
