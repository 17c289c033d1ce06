"""Denials as HTTP errors."""

from __future__ import annotations

from typing import Any

from flask import Response, request
from werkzeug.exceptions import ServiceUnavailable, TooManyRequests

from ratelimiter_client.decision import Decision
from ratelimiter_client.web.denials import PROBLEM, denial, in_words, status_of


class RateLimitExceeded(TooManyRequests):
    """429: a limit denies. `decision` names it by `limit_key`, `client_id` and `rule_id`, with the time to wait."""

    def __init__(self, decision: Decision, description: str, response: Any) -> None:
        super().__init__(description=description, response=response)
        self.decision = decision


class RateLimitUndecided(ServiceUnavailable):
    """503: the service did not decide, and the fail mode denies."""

    def __init__(self, decision: Decision, description: str, response: Any) -> None:
        super().__init__(description=description, response=response)
        self.decision = decision


def error_of(decision: Decision, message: str | None, response: Any = None) -> RateLimitExceeded | RateLimitUndecided:
    """The exception to raise. `message`: instead of the wait in words; `response`: instead of the problem document."""
    status, _, body = denial(decision, request.environ, message)
    answer = Response(body, status, content_type=PROBLEM) if response is None else response
    kind = RateLimitExceeded if status_of(decision) == 429 else RateLimitUndecided
    return kind(decision, message or in_words(decision), answer)
