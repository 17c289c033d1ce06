"""Decides checks in Redis or Valkey: sends the check scripts, reads their answers, tells errors apart.

Never retries a check: a script whose answer was lost may have charged already.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from struct import Struct
from struct import error as StructError
from typing import Any

import hiredis
from opentelemetry.trace import SpanKind, get_current_span
from redis.connection import AbstractConnection
from redis.exceptions import RedisError

from app.limiter.decision import EarlierOutcome, LeaseOutcome, Outcome
from app.limiter.errors import Redirected, RequestIdConflict, StoreError, StoreFault, StoreUnavailable
from app.limiter.keys import HEALTH
from app.limiter.plan import Charge, Plan, packed
from app.limiter.redis_link import RedisLink
from app.limiter.redis_url import SENTINEL, Servers
from app.limiter.scripts import all_scripts
from app.limiter.sentinels import Sentinels
from app.limiter.wire import Wire
from app.observability.metrics import REDIS_ERRORS
from app.observability.tracing import tracer, within
from app.rules.rule import DEFAULT_RULE_ID, Limit, Rule

MAX_WAITING = 10_000  # callers of one worker; 50 ms of them would be 200,000 checks a second
# Answers that say the server cannot serve now, by the first word of the error.
UNABLE = ("LOADING", "READONLY", "OOM", "MISCONF", "MASTERDOWN", "CLUSTERDOWN", "NOREPLICAS", "BUSY")
ELSEWHERE = ("MOVED", "ASK", "TRYAGAIN")  # nothing was run
_OUTCOME, _LEASE = Struct("<2I3q"), Struct("<2I3qi")  # check.lua says of what, and lease.lua
_unpack = _OUTCOME.unpack
LOOK = Plan(Rule(id=DEFAULT_RULE_ID, client_id="*", limits=(Limit(rate=1, window=1, algorithm="fixed_window"),)))


class RedisStore:
    """Sends charges over one link. `now_us` is for tests: it replaces the server's clock."""

    elsewhere: Sequence[str] = ELSEWHERE

    def __init__(self, link: RedisLink) -> None:
        self._link = link

    def check(self, charges: Sequence[Charge], now_us: int | None = None) -> list[Outcome | StoreError]:
        """One trip for all charges, decided in order. Each gets its outcome or its own error.

        Raises StoreError when the trip itself failed: then it is unknown what was charged.
        """
        replies = self._trip(charges, now_us)
        unknown = [i for i, reply in enumerate(replies) if type(reply) is not bytes and _code(reply) == "NOSCRIPT"]
        if unknown:  # these did not run, so they may be sent again
            self.load_scripts()
            for i, reply in zip(unknown, self._trip([charges[i] for i in unknown], now_us), strict=True):
                replies[i] = reply
        return [self._read(reply) for reply in replies]

    def load_scripts(self) -> None:
        """SCRIPT LOAD, so that checks are calls by SHA alone. Safe to repeat. Raises StoreError."""
        self.send([(b"SCRIPT", b"LOAD", script.source.encode()) for script in all_scripts()], "load")

    def ping(self) -> bool:
        """Whether the server answers a check within the timeout (a PING alone would not notice a lost script)."""
        try:
            return isinstance(self.check([Charge(LOOK, HEALTH, 0)])[0], Outcome)
        except StoreError:
            return False

    def _trip(self, charges: Sequence[Charge], now_us: int | None) -> list[Any]:
        commands = [charge.plan.command(charge, now_us) for charge in charges]
        if not get_current_span().is_recording():  # a span that nobody sees is not for nothing
            return self._call(commands, "check")
        span = tracer.start_span("redis.evalsha", kind=SpanKind.CLIENT, attributes={"redis.command": "EVALSHA"})
        with within(span):
            return self._call(commands, "check")

    def _call(self, commands: list[bytes], operation: str) -> list[Any]:
        try:
            return self._link.call(b"".join(commands), len(commands))
        except RedisError as error:
            REDIS_ERRORS.labels(operation).inc()
            raise StoreUnavailable(str(error), failure=error) from error

    def _read(self, reply: Any) -> Outcome | StoreError:
        try:
            binding, remaining, wait_us, reset_after_us, now_us = _unpack(reply)
        except StructError:  # of another length
            return self._read_other(reply)
        except TypeError:  # no bytes
            return self._refused(reply, "check")
        if wait_us == 0:
            return Outcome(True, binding - 1, remaining, 0, reset_after_us, now_us)
        return Outcome(False, binding - 1, remaining, wait_us if wait_us > 0 else None, reset_after_us, now_us)

    def _read_other(self, reply: bytes) -> Outcome | StoreError:
        """What is no new outcome of a check: that of a lease, none, or one with terms behind it, which are longer."""
        if not reply:
            return RequestIdConflict("the request_id was used for a check with another limit_key or cost")
        if len(reply) != _LEASE.size:
            binding, remaining, wait_us, reset_after_us, now_us = _unpack(reply[: _OUTCOME.size])
            return EarlierOutcome(True, binding - 1, remaining, wait_us, reset_after_us, now_us, reply[_OUTCOME.size :])
        binding, remaining, wait_us, reset_after_us, now_us, permits = _LEASE.unpack(reply)
        return LeaseOutcome(wait_us == 0, binding - 1, remaining, wait_us, reset_after_us, now_us, permits)

    def _refused(self, reply: hiredis.ReplyError, operation: str) -> StoreError:
        code = _code(reply)
        if code in self.elsewhere:
            return Redirected(str(reply))
        REDIS_ERRORS.labels(operation).inc()
        if code == "READONLY":
            self._link.drop()  # a demoted primary: the next connection finds out who the primary is
        return StoreUnavailable(str(reply)) if code in UNABLE else StoreFault(str(reply))

    def send(self, commands: Sequence[tuple[bytes, ...]], operation: str) -> list[Any]:
        """The replies to commands, each in words, for what no check waits for. Raises StoreError if any failed."""
        return without_errors(self.replies(commands, operation))

    def replies(self, commands: Sequence[tuple[bytes, ...]], operation: str) -> list[Any]:
        """Likewise, with a StoreError in place of the reply to each that failed."""
        replies = self._call([packed(*words) for words in commands], operation)
        return [
            self._refused(reply, operation) if isinstance(reply, hiredis.ReplyError) else reply for reply in replies
        ]

    def servers(self) -> Sequence[RedisStore]:
        """Those that have the keys between them."""
        return [self]


def without_errors(replies: list[Any]) -> list[Any]:
    """Raises the first StoreError among them."""
    for reply in replies:
        if isinstance(reply, StoreError):
            raise reply
    return replies


def _code(reply: Any) -> str | None:
    """The first word of an error reply."""
    return str(reply).partition(" ")[0] if isinstance(reply, hiredis.ReplyError) else None


def connect(url: str, *, timeout_ms: int, clock: Callable[[], float]) -> RedisLink:
    """A link to the server that decides, alone or under Sentinel. Opens no connection yet. `clock`: monotonic.

    It fails within the timeout and never repeats a command.
    """
    servers = Servers(url, timeout_ms / 1000)
    link = link_by(lambda: opened(), timeout_ms=timeout_ms, clock=clock)
    opened = Sentinels(servers, link.drop).connect if servers.topology == SENTINEL else servers.connect
    return link


def link_by(opened: Callable[[], AbstractConnection], *, timeout_ms: int, clock: Callable[[], float]) -> RedisLink:
    """A link whose connections `opened` opens."""
    return RedisLink(
        connect=lambda: Wire(opened()), timeout_seconds=timeout_ms / 1000, max_waiting=MAX_WAITING, clock=clock
    )
