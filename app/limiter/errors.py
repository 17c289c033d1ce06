"""What can go wrong on the way to a decision. A denial is none of these: it is a Decision."""

from __future__ import annotations


class NotReady(Exception):
    """No rules are known yet: neither the database nor a saved snapshot could be read since the start."""


class StoreError(Exception):
    """The store gave no outcome."""


class StoreUnavailable(StoreError):
    """Unreachable, too slow, or not able to serve right now: what the breaker counts.

    `failure` is what happened. Checks that share a connection share its failure: the breaker counts it once.
    """

    def __init__(self, message: str, failure: Exception | None = None) -> None:
        super().__init__(message)
        self.failure = failure or self


def no_failure_of_the_store(error: Exception) -> bool:
    """What a breaker excludes: whatever is the worker's own, the caller's or a bug's."""
    return not isinstance(error, StoreUnavailable)


class StoreBusy(StoreError):
    """This worker has no connection free: its own load, which says nothing about the store."""


class StoreFull(StoreError):
    """The server has no memory for what this check would write. It is alive, and still decides what writes nothing, so
    the breaker must not keep denials from it: callers can fill a Redis, and must not be able to open the breaker."""


class StoreFault(StoreError):
    """The store answered, but not with an outcome: a broken script or a key of another type. Needs a human."""


class NotRun(StoreFault):
    """The server ran no script: it knows none of that name (NOSCRIPT), or none may touch several slots (CROSSSLOT)."""


class Redirected(StoreFault):
    """A server of a cluster did not run the command: the slot of its keys is elsewhere or on its way (MOVED, ASK,
    TRYAGAIN), or it has lost the majority (CLUSTERDOWN). Says nothing against it."""


class RequestIdConflict(StoreError):
    """The request id was used for another check of this client less than a minute ago. Nothing was charged."""


class Unavailable(Exception):
    """Nothing decided and the rule's fail_mode is closed: the caller gets 503 with `retry_after_seconds`."""

    def __init__(self, retry_after_seconds: int) -> None:
        super().__init__("the rate limiter cannot decide right now")
        self.retry_after_seconds = retry_after_seconds
