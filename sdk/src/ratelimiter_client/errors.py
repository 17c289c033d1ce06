"""What can be raised, all of it only where somebody asked for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ratelimiter_client.decision import Decision

# The service refused, there was no answer in time, no connection, an answer that is none, or nobody asked.
REASONS = ("refused", "timed_out", "not_reached", "no_answer", "not_asked")
REFUSED_QUESTION = (409, 413, 422)


class RateLimiterError(Exception):
    """The service did not decide. Raised with fail_mode="raise", and by leases whatever the fail mode.

    `status` is that of its HTTP answer, None where there was none; `retry_after_ms` says when to try again. `reason`
    is one of REASONS.
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
        """Whether the service would not answer this question, though it is there for others."""
        return self.status in REFUSED_QUESTION


class RateLimited(Exception):
    """A call of a function decorated with `limit` was denied; `decision` says for how long."""

    def __init__(self, decision: Decision) -> None:
        super().__init__(decision)  # what it is made of again when it is unpickled
        self.decision = decision

    def __str__(self) -> str:
        return f"denied, retry_after_ms is {self.decision.retry_after_ms}"


class ProtocolError(Exception):
    """What came is no answer of the service. Asking again would not help. Never leaves this package."""
