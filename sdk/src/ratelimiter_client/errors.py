"""What can be raised, all of it only where somebody asked for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ratelimiter_client.decision import Decision


class RateLimiterError(Exception):
    """The service did not decide. Raised with fail_mode="raise", and by leases whatever the fail mode.

    `status` is that of its HTTP answer, 422 also for what was not sent because it would be refused, None where there
    was no answer; `retry_after_ms` says when to try again.
    """

    def __init__(self, message: str, *, status: int | None = None, retry_after_ms: int = 1000) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after_ms = retry_after_ms


class RateLimited(Exception):
    """A call of a function decorated with `limit` was denied; `decision` says for how long."""

    def __init__(self, decision: Decision) -> None:
        super().__init__(decision)  # what it is made of again when it is unpickled
        self.decision = decision

    def __str__(self) -> str:
        return f"denied, retry_after_ms is {self.decision.retry_after_ms}"


class ProtocolError(Exception):
    """What came is no answer of the service. Asking again would not help. Never leaves this package."""
