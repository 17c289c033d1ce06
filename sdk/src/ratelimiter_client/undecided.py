"""Checks that the service did not decide: their replacement by the fail mode, and its log lines."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from typing import Any, Callable, Optional

from ratelimiter_client.decision import Decision, undecided
from ratelimiter_client.errors import RateLimiterError
from ratelimiter_client.http.breaker import log

LINE_SECONDS = 60.0
OnUndecided = Optional[Callable[[RateLimiterError], Any]]


class Undecided:
    """The undecided checks of one process. Thread-safe; `total` and `reasons` count from its start.

    The first is logged at once, further ones at most once a minute, with their number. `hook` is called for each.
    `clock` gives monotonic seconds.
    """

    def __init__(
        self, url: str, fail_mode: str, hook: OnUndecided = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.reasons: Counter[str] = Counter()
        self.last: str | None = None  # the error of the last one
        self._url, self._fail_mode, self._hook, self._clock = url, fail_mode, hook, clock
        self._lock = threading.Lock()  # never held while anything waits
        self._unsaid: Counter[str] = Counter()
        self._next_line = 0.0
        self._hook_failed = False

    @property
    def total(self) -> int:
        return sum(self.reasons.values())

    def decision(self, error: RateLimiterError) -> Decision:
        """The decision of the fail mode. Raises `error` if that is "raise".

        A question that the service refuses is denied whatever the fail mode: the service decides others.
        """
        self.count(error)
        if self._fail_mode == "raise":
            raise error
        return undecided(error, allowed=self._fail_mode == "open" and not error.refuses_the_question)

    def count(self, error: RateLimiterError) -> None:
        """Count the error and call the hook. Log it too, unless the fail mode raises it."""
        with self._lock:
            reason = error.reason if error.status is None else f"{error.reason} ({error.status})"
            self.reasons[reason] += 1
            self._unsaid[reason] += 1
            self.last = str(error)
            line = self._line() if self._fail_mode != "raise" else None
        if line is not None:
            level = logging.ERROR if error.reason == "refused" and error.status != 503 else logging.WARNING
            log.log(level, "%s: %s (fail mode %s)%s", line, error, self._fail_mode, _advice(error))
        self._tell(error)

    def flush(self) -> None:
        """Log the number of checks that no line has counted yet."""
        with self._lock:
            number, self._unsaid = sum(self._unsaid.values()), Counter()
        if number and self._fail_mode != "raise":
            log.warning("the rate limiter at %s did not decide %d more checks", self._url, number)

    def _line(self) -> str | None:
        now = self._clock()
        if self._next_line and now < self._next_line:
            return None
        first = not self._next_line
        self._next_line = now + LINE_SECONDS
        told, self._unsaid = self._unsaid, Counter()
        if first:
            return f"the rate limiter at {self._url} did not decide a check"
        counts = ", ".join(f"{number} {reason.replace('_', ' ')}" for reason, number in told.most_common())
        number = sum(told.values())
        return f"the rate limiter at {self._url} did not decide {number} checks since the last line, {counts}"

    def _tell(self, error: RateLimiterError) -> None:
        if self._hook is None:
            return
        try:
            self._hook(error)
        except Exception:
            if not self._hook_failed:
                log.exception("on_undecided failed (said once)")
            self._hook_failed = True


def _advice(error: RateLimiterError) -> str:
    is_elsewhere = error.reason in ("not_reached", "no_answer") or error.status in (404, 405)
    return ": is the url right?" if is_elsewhere else ""
