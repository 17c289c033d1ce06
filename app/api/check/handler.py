"""The whole behaviour of `/v1/check` and `/v1/check/batch`: bytes in, Reply out. Doors only adapt it to a server."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple

import msgspec
from opentelemetry.trace import Span

from app.api.auth import Authenticator, Credentials, Principal
from app.api.check.batch_pieces import BatchPieces
from app.api.check.decoding import decode_batch, decode_check, valid_check
from app.api.check.encoding import JSON_HEAD, Encoder
from app.api.check.fast_decoding import Batch
from app.api.problems import INVALID, PROBLEM_TYPE, UNEXPECTED, Problem
from app.limiter.decision import Check, Decision, Question
from app.limiter.errors import NotReady, RequestIdConflict, TooMuchTogether, Unavailable
from app.limiter.limiter import Answer, Limiter
from app.limiter.new_client_budget import NewClientBudget
from app.limiter.store import RuleSource
from app.observability.logs import correlation_id as current_correlation_id
from app.observability.metrics import CHECK_DURATION
from app.observability.sampling import Tracing
from app.observability.tracing import Parent, answered, within
from app.rules.sync.yielding import PIECE_SECONDS

log = logging.getLogger(__name__)

CHECK_SPAN, BATCH_SPAN = "POST /v1/check", "POST /v1/check/batch"
# Checks of a batch in one piece. Most checks take 3 us; those with the most limits and the longest ids take 20 us.
MOST_TOGETHER = 250
# Pieces that run at a time. One of two long batches works while the other waits for Redis. Short batches, of some 100
# checks, take a millisecond and do not wait for long ones. They let the loop poll its sockets more rarely, because a
# rest costs as much as five checks.
SHORT_BYTES, SHORT_AT_ONCE, SHORT_SECONDS, LONG_AT_ONCE = 8 * 1024, 32, 0.01, 2
# A tenant with many patterns gets smaller pieces, of so many trials of patterns. A trial may take half a microsecond;
# most client ids need none.
LEAST_TOGETHER, PATTERN_TRIALS = 25, 5_000
# A batch that is charged together is one piece: at most 100 checks, or as many as try so many patterns in 20 ms.
LEAST_ALL_OR_NONE, TRIALS_ALL_OR_NONE = 100, 40_000


class Request(NamedTuple):
    """The parts of an HTTP request that matter here. `parent`: the trace that it continues, if any.

    `known`: the caller and the members of the check, from a door that has both already; None: credentials and body hold
    them. `form`: makes the reply to a decision; None: the reply of `/v1/check`.
    """

    raw_body: bytes
    credentials: Credentials
    correlation_id: str
    parent: Parent | None = None
    known: tuple[Principal, dict[str, Any]] | None = None
    form: Callable[[Decision], Reply] | None = None


class Reply(msgspec.Struct, frozen=True, gc=False):
    """An HTTP answer. `head` is its header lines, each with its line end.

    The door adds the headers that frame the body, and the correlation id.
    """

    status: int
    head: bytes
    body: bytes

    @property
    def headers(self) -> list[tuple[str, str]]:
        lines = self.head.decode("latin-1").split("\r\n")[:-1]
        return [(name, value) for name, _, value in (line.partition(": ") for line in lines)]


class CheckHandler:
    """Decodes, authenticates, decides and encodes. `clock` is monotonic seconds; `tracing` None makes no spans.

    `new_client_budget` judges checks of callers without a key; None: the number of their clients is not bounded.
    """

    def __init__(
        self,
        *,
        rules: RuleSource,
        limiter: Limiter,
        authenticator: Authenticator,
        encoder: Encoder,
        new_client_budget: NewClientBudget | None,
        tracing: Tracing | None,
        clock: Callable[[], float],
    ) -> None:
        self._rules = rules
        self._limiter = limiter
        self._authenticator = authenticator
        self._encoder = encoder
        self._new_client_budget = new_client_budget
        self._clock = clock
        self._tracing = tracing
        self.traced = tracing is not None  # False: doors need not call `span`
        self._short = BatchPieces(clock, at_once=SHORT_AT_ONCE, seconds=SHORT_SECONDS)
        self._long = BatchPieces(clock, at_once=LONG_AT_ONCE, seconds=PIECE_SECONDS)

    def span(self, request: Request, name: str = CHECK_SPAN) -> Span | None:
        """Begin the span of the request; None where its trace is not recorded."""
        tracing = self._tracing
        return None if tracing is None else tracing.begin(name, request.correlation_id, request.parent)

    @property
    def probe_due(self) -> bool:
        """Whether the next check, and those answered together with it, may wait for a store that has failed."""
        return self._limiter.probe_due

    def handle_check(self, request: Request, span: Span | None = None) -> Reply:
        """Answer one check, inside `span` if it has begun already."""
        return _within(span or self.span(request), self._single, request)

    def handle_batch(self, request: Request) -> Reply:
        """Answer a batch of checks."""
        return _within(self.span(request, BATCH_SPAN), self._batch, request)

    def handle_checks(self, requests: Sequence[Request]) -> list[Reply]:
        """Answer single checks that arrived together, each as if alone, in one round trip to Redis."""
        started = self._clock()
        if len(requests) == 1:  # a log line of a shared round trip belongs to no single request
            current_correlation_id.set(requests[0].correlation_id)
        questions = [self._question_in(request) for request in requests]
        answers = iter(self._decide([question for question in questions if not isinstance(question, Problem)]))
        replies = [
            self._reply(question if isinstance(question, Problem) else next(answers), request)
            for question, request in zip(questions, requests, strict=True)
        ]
        CHECK_DURATION.observe_many(self._clock() - started, len(requests))
        return replies

    def admit(self, credentials: Credentials) -> None:
        """Raises Problem 401 or 403 for a caller without the right to check."""
        self._authenticator.principal(credentials, "check")

    def refuse(self, problem: Problem, correlation_id: str) -> Reply:
        """The answer for a problem."""
        current_correlation_id.set(correlation_id)
        lines = [("Content-Type", PROBLEM_TYPE), *problem.headers.items()]
        head = "".join(f"{name}: {value}\r\n" for name, value in lines).encode("latin-1")
        return Reply(problem.status, head, problem.body())

    def _question_in(self, request: Request) -> Question | Problem:
        try:
            if request.known is None:
                principal = self._authenticator.principal(request.credentials, "check")
                check = decode_check(request.raw_body)
            else:
                principal, members = request.known
                check = valid_check(members)
            return (principal.tenant_id, check) if self._new_client_budget is None else self.question(principal, check)
        except Problem as problem:
            return problem
        except Exception:  # a bug in one request must not affect those beside it
            current_correlation_id.set(request.correlation_id)
            log.exception("cannot read a check")
            return Problem(500, UNEXPECTED)

    def decide(
        self, principal: Principal, checks: Sequence[Check], *, together: bool = False
    ) -> Sequence[Answer | Problem]:
        """The answers to the checks of an authenticated caller, in order, in one round trip to Redis.

        `together`: all checks are admitted and charged, or none is.
        """
        if self._new_client_budget is not None and principal.anonymous:
            return self._decide([self.question(principal, check) for check in checks], together=together)
        tenant_id = principal.tenant_id
        return self._decide([(tenant_id, check) for check in checks], together=together)

    def question(self, principal: Principal, check: Check) -> Question:
        """The tenant id and the check. The budget of new clients judges the check of an anonymous caller first."""
        if self._new_client_budget is not None and principal.anonymous:
            check = self._new_client_budget.judge(principal.tenant_id, check)
        return principal.tenant_id, check

    def _decide(self, questions: Sequence[Question], *, together: bool = False) -> Sequence[Answer | Problem]:
        try:
            return self._limiter.check_together(questions) if together else self._limiter.check(questions)
        except NotReady:
            detail = "no rules are known yet: the database has not answered since the start"
            return [Problem(503, detail, kind="no-rules", headers={"Retry-After": "1"})] * len(questions)
        except TooMuchTogether as error:
            raise Problem(422, INVALID, errors={"checks": [str(error)]}) from error

    def _reply(self, answer: Answer | Problem, request: Request) -> Reply:
        if not isinstance(answer, Decision):
            return self.refuse(_as_problem(answer), request.correlation_id)
        if log.isEnabledFor(logging.DEBUG):
            current_correlation_id.set(request.correlation_id)
            log.debug("check of rule %s: %s", answer.compiled.rule.public_id, answer.reason)
        if request.form is not None:
            current_correlation_id.set(request.correlation_id)
            return request.form(answer)
        return Reply(200, self._encoder.head(answer), self._encoder.body(answer).encode())

    def _single(self, request: Request) -> Reply:
        return self.handle_checks([request])[0]

    def _batch(self, request: Request) -> Reply:
        started = self._clock()
        current_correlation_id.set(request.correlation_id)
        try:
            principal = self._authenticator.principal(request.credentials, "check")
            pieces = self._short if len(request.raw_body) <= SHORT_BYTES else self._long
            with pieces if pieces is self._long else nullcontext():
                batch = decode_batch(request.raw_body)
            reply = self._results(principal, batch, pieces)
        except Problem as problem:
            reply = self.refuse(problem, request.correlation_id)
        CHECK_DURATION.observe(self._clock() - started)
        return reply

    def _at_once(self, tenant_id: int) -> int:
        """The number of checks of the tenant that are decided before others get their turn."""
        return max(LEAST_TOGETHER, min(MOST_TOGETHER, PATTERN_TRIALS // self._tried(tenant_id)))

    def _require_few(self, tenant_id: int, checks: int) -> None:
        """Raises Problem 422 for more checks than may be decided without others getting their turn."""
        most = max(LEAST_ALL_OR_NONE, TRIALS_ALL_OR_NONE // self._tried(tenant_id))
        if checks > most:
            told = f"With the patterns of these rules, at most {most} checks are decided together; there are {checks}."
            raise Problem(422, INVALID, errors={"checks": [told]})

    def _tried(self, tenant_id: int) -> int:
        """The number of patterns that may have to be tried for one check; at least 1."""
        book = self._rules.book
        return max(1, book.tried(tenant_id)) if book is not None else 1

    def _results(self, principal: Principal, batch: Batch, pieces: BatchPieces) -> Reply:
        results: list[str] = []
        body = self._with_headers if batch.headers else self._encoder.body
        checks, together = batch.checks, batch.together
        at_once = len(checks) if together else self._at_once(principal.tenant_id)
        if together:
            self._require_few(principal.tenant_id, len(checks))
        for first in range(0, len(checks), at_once):
            if first:
                pieces.give_way()
            with pieces:
                answers = self.decide(principal, checks[first : first + at_once], together=together)
                if isinstance(answers[0], Problem):  # then all answers are the same Problem
                    raise answers[0]
                results += [body(answer) if isinstance(answer, Decision) else _as_error(answer) for answer in answers]
        return Reply(200, JSON_HEAD, f'{{"results":[{",".join(results)}]}}'.encode())

    def _with_headers(self, decision: Decision) -> str:
        """The JSON object of a batch result that has the header fields of a single answer."""
        headers = dict(Reply(200, self._encoder.head(decision), b"").headers)
        del headers["Content-Type"]
        return f'{self._encoder.body(decision)[:-1]},"headers":{json.dumps(headers)}}}'


def _within(span: Span | None, handle: Callable[[Request], Reply], request: Request) -> Reply:
    """Answer the request by `handle`, inside its span if it has one."""
    if span is None:
        return handle(request)
    with within(span):
        reply = handle(request)
        answered(span, reply.status)
    return reply


def _as_problem(answer: Unavailable | RequestIdConflict | Problem) -> Problem:
    if isinstance(answer, Problem):
        return answer
    if isinstance(answer, RequestIdConflict):
        return Problem(409, str(answer), kind="request-id-conflict")
    headers = {"Retry-After": str(answer.retry_after_seconds)}
    return Problem(503, str(answer), kind="cannot-decide", headers=headers)


def _as_error(answer: Unavailable | RequestIdConflict | Problem) -> str:
    """The JSON object of a batch result that is no decision."""
    return json.dumps({"error": _as_problem(answer).document()})
