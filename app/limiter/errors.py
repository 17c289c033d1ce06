"""Failures on the path to a decision. A denial is not among them: it is a Decision."""

from __future__ import annotations


class NotReady(Exception):
    """No rules are known yet: neither the database nor a saved snapshot could be read since the start."""


class StoreError(Exception):
    """The store returned no outcome."""


class StoreUnavailable(StoreError):
    """Unreachable, too slow, or unable to serve right now: the errors that the breaker counts.

    `failure` is the cause. Checks that share a connection share its failure, so the breaker counts it once.
    """

    def __init__(self, message: str, failure: Exception | None = None) -> None:
        super().__init__(message)
        self.failure = failure or self


def no_failure_of_the_store(error: Exception) -> bool:
    """Whether a breaker ignores the error: a cause in the worker, in the caller or in a bug."""
    return not isinstance(error, StoreUnavailable)


class StoreBusy(StoreError):
    """This worker has no connection free. The cause is its own load, which says nothing about the store."""


class StoreFull(StoreError):
    """The server has no memory for the write of this check.

    The server is alive and still decides checks that write nothing. The breaker must stay closed, because callers can
    fill a Redis and must not be able to open the breaker.
    """


class StoreFault(StoreError):
    """The store answered, but not with an outcome: a broken script or a key of another type. Needs an operator."""


class NotRun(StoreFault):
    """The server ran no script: its SHA is unknown (NOSCRIPT), or its keys span several slots (CROSSSLOT)."""


class Redirected(StoreFault):
    """A server of a cluster did not run the command, which is no failure of the server.

    The slot of the keys is elsewhere or migrating (MOVED, ASK, TRYAGAIN), or the majority is lost (CLUSTERDOWN).
    """


class RequestIdConflict(StoreError):
    """The request id was used for another check of this client within the last minute. Nothing was charged."""


class TooMuchTogether(Exception):
    """Deciding these checks together would keep Redis from all other clients for too long. Nothing was charged."""

    def __init__(self) -> None:
        super().__init__("these checks have too many limits to be decided together: send fewer checks")


class Unavailable(Exception):
    """No decision, and the rule's fail_mode is closed: the caller gets 503 with `retry_after_seconds`."""

    def __init__(self, retry_after_seconds: int) -> None:
        super().__init__("the rate limiter cannot decide right now")
        self.retry_after_seconds = retry_after_seconds
