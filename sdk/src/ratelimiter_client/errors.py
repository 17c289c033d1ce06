"""Exceptions that callers of the library can ask for."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ratelimiter_client.decision import Decision

# The service refused; no answer in time; no connection; no valid answer; the breaker was open.
REASONS = ("refused", "timed_out", "not_reached", "no_answer", "not_asked")
REFUSED_QUESTION = (409, 413, 422)


class RateLimiterError(Exception):
    """The service did not decide. Raised with fail_mode="raise", and by leases whatever the fail mode.

    `status` is that of its HTTP answer, None where there was none. `retry_after_ms`: the time after which to try again.
    `reason` is one of REASONS.
    """

    def __init__(
        self, message: str, *, status: int | None = None, retry_after_ms: int = 1000, reason: str = "refused"
    ) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after_ms = retry_after_ms
        self.reason = reason

    @property
    def refuses_the_question(self) -> bool:
        """Whether the service refuses this question, though it answers others."""
        return self.status in REFUSED_QUESTION


class RateLimited(Exception):
    """A call of a function decorated with `limit` was denied; `decision` says for how long."""

    def __init__(self, decision: Decision) -> None:
        super().__init__(decision)  # unpickling calls the class with these arguments
        self.decision = decision

    def __str__(self) -> str:
        return f"denied, retry_after_ms is {self.decision.retry_after_ms}"


class ProtocolError(Exception):
    """The answer is not one of the service; asking again would not help. Never leaves this package."""
