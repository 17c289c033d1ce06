"""Decides checks in Redis or Valkey: sends the check scripts, reads their answers, tells errors apart.

Never retries a check: a script whose answer was lost may have charged already.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.exceptions import MaxConnectionsError, NoScriptError, ReadOnlyError, RedisError, ResponseError
from redis.retry import Retry

from app.limiter.decision import Outcome
from app.limiter.errors import StoreBusy, StoreError, StoreFault, StoreUnavailable
from app.limiter.scripts import check_script
from app.observability.metrics import REDIS_ERRORS
from app.observability.tracing import tracer
from app.rules.rule import ALGORITHMS, Limit

CONNECTIONS = 64  # per worker; a check holds one for a trip of well under a millisecond
# Answers that say the server cannot serve now, by the first word of the error.
UNABLE = ("LOADING", "READONLY", "OOM", "MISCONF", "MASTERDOWN", "CLUSTERDOWN", "NOREPLICAS", "TRYAGAIN", "BUSY")


@dataclass(frozen=True, slots=True)
class Charge:
    """Asks to consume `cost` units of every limit, or of none. One key per limit; algorithms are resolved."""

    keys: tuple[str, ...]
    limits: tuple[Limit, ...]
    cost: int


@dataclass(frozen=True, slots=True)
class Script:
    sha: str
    source: str


class RedisStore:
    """Sends charges to one server. `now_us` is for tests: it replaces the server's clock."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        # One small script per algorithm, one with all of them for rules that mix.
        self._scripts = {name: _script(name) for name in ALGORITHMS}
        self._mixed = _script(*ALGORITHMS)

    def check(self, charges: Sequence[Charge], now_us: int | None = None) -> list[Outcome | StoreError]:
        """One trip for all charges, decided in order. Each gets its outcome or its own error.

        Raises StoreError when the trip itself failed: then it is unknown what was charged.
        """
        try:
            replies = self._trip(charges, now_us)
            unknown = [i for i, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
            if unknown:
                self.load_scripts()
                for i, reply in zip(unknown, self._trip([charges[i] for i in unknown], now_us), strict=True):
                    replies[i] = reply
        except RedisError as error:
            raise self._classified(error, "check") from error
        return [
            self._classified(reply, "check") if isinstance(reply, RedisError) else _outcome(reply) for reply in replies
        ]

    def load_scripts(self) -> None:
        """SCRIPT LOAD, so that checks are calls by SHA alone. Safe to repeat."""
        pipeline = self._client.pipeline(transaction=False)
        for script in (*self._scripts.values(), self._mixed):
            pipeline.script_load(script.source)
        pipeline.execute()

    def ping(self) -> bool:
        """Whether the server answers a check within the timeout (a PING alone would not notice a lost script)."""
        limit = Limit(rate=1, window=1, algorithm="fixed_window")
        try:
            return isinstance(self.check([Charge(keys=("rl:{health}",), limits=(limit,), cost=0)])[0], Outcome)
        except StoreError:
            return False

    def delete(self, keys: Sequence[str]) -> None:
        """Forget these counters. Raises StoreError."""
        try:
            for key in keys:
                self._client.delete(key)
        except RedisError as error:
            raise self._classified(error, "delete") from error

    def _trip(self, charges: Sequence[Charge], now_us: int | None) -> list[Any]:
        pipeline = self._client.pipeline(transaction=False)
        for charge in charges:
            pipeline.evalsha(
                self._script_for(charge.limits).sha, len(charge.keys), *charge.keys, *_argv(charge, now_us)
            )
        with tracer.start_as_current_span("redis.evalsha", attributes={"redis.command": "EVALSHA"}):
            return list(pipeline.execute(raise_on_error=False))

    def _script_for(self, limits: tuple[Limit, ...]) -> Script:
        names = {limit.algorithm for limit in limits}
        return self._scripts[names.pop() or ""] if len(names) == 1 else self._mixed

    def _classified(self, error: RedisError, operation: str) -> StoreError:
        REDIS_ERRORS.labels(operation).inc()
        if isinstance(error, ReadOnlyError):
            # A demoted primary: the next connection asks anew who the primary is.
            self._client.connection_pool.disconnect()
        if isinstance(error, MaxConnectionsError) or "No connection available" in str(error):
            return StoreBusy(str(error))
        code = error.status_code or str(error).partition(" ")[0]
        if isinstance(error, ResponseError) and code not in UNABLE:
            return StoreFault(str(error))
        return StoreUnavailable(str(error))


def connect(url: str, timeout_ms: int) -> redis.Redis:
    """A client that fails within the timeout and never repeats a command. Opens no connection yet."""
    timeout = timeout_ms / 1000
    pool = redis.BlockingConnectionPool.from_url(
        url,
        max_connections=CONNECTIONS,
        timeout=timeout,
        socket_timeout=timeout,
        socket_connect_timeout=timeout,
        retry=Retry(NoBackoff(), 0),
    )
    return redis.Redis(connection_pool=pool)


def _script(*algorithms: str) -> Script:
    source = check_script(algorithms)
    # Redis names a script by the SHA-1 of its source.
    return Script(sha=hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest(), source=source)


def _argv(charge: Charge, now_us: int | None) -> list[Any]:
    argv: list[Any] = [charge.cost]
    for limit in charge.limits:
        argv += (limit.algorithm, limit.rate, limit.window_us, limit.capacity)
    return [*argv, "" if now_us is None else now_us]


def _outcome(reply: list[int]) -> Outcome:
    allowed, binding, remaining, retry_after_us, reset_after_us, now_us = reply
    return Outcome(
        allowed=allowed == 1,
        binding=binding - 1,
        remaining=remaining,
        retry_after_us=None if retry_after_us < 0 else retry_after_us,
        reset_after_us=reset_after_us,
        now_us=now_us,
    )
