"""Decides checks in Redis or Valkey: sends the check scripts, reads their replies, classifies errors.

Never retries a check, because a script whose reply was lost may have charged already.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import hiredis
from opentelemetry.trace import SpanKind, get_current_span
from redis.connection import AbstractConnection
from redis.exceptions import RedisError

from app.limiter.compiled_rule import Charge, CompiledRule
from app.limiter.decision import Outcome
from app.limiter.errors import NotRun, Redirected, StoreError, StoreFault, StoreFull, StoreUnavailable
from app.limiter.joint.part_calls import packed_part, part_trips, read_part_outcome
from app.limiter.joint.parts import Part, PartOutcome
from app.limiter.keys import HEALTH
from app.limiter.redis.connection import MAX_WORK_US, RedisConnection
from app.limiter.redis.endpoint import SENTINEL, RedisEndpoint
from app.limiter.redis.packing import packed
from app.limiter.redis.preflight import permitted
from app.limiter.redis.script_calls import NONSENSE, of_single_checks, packed_call, read_part, read_reply, round_trips
from app.limiter.redis.scripts import all_scripts
from app.limiter.redis.sentinel import Sentinels
from app.limiter.redis.socket import RedisSocket
from app.observability.metrics import REDIS_ERRORS
from app.observability.tracing import tracer, within
from app.rules.rule import DEFAULT_RULE_ID, Limit, Rule

MAX_WAITING = 10_000  # callers of one worker; 50 ms of them would be 200,000 checks a second
# Error codes (first words) of a server that cannot serve now.
UNABLE = ("LOADING", "READONLY", "MISCONF", "MASTERDOWN", "CLUSTERDOWN", "NOREPLICAS", "BUSY", "NOPERM")
# Beginnings of the errors, by server release, for a script that calls a command without permission.
NOT_PERMITTED = ("ERR ACL failure in script", "ERR The user executing the script")
REPLACED = ("READONLY", "NOREPLICAS")  # the primary was demoted, or is cut off from its replicas
NOT_RUN = ("NOSCRIPT", "CROSSSLOT")
LOADS = tuple(packed(b"SCRIPT", b"LOAD", script.source) for script in all_scripts())
ELSEWHERE = ("MOVED", "ASK", "TRYAGAIN")  # the command was not run
EVALSHA = {"redis.command": "EVALSHA"}
TOGETHER = 64  # checks per call: enough to spread a call's cost, few enough to block Redis for milliseconds at most
LOOK = CompiledRule(
    Rule(id=DEFAULT_RULE_ID, client_id="*", limits=(Limit(rate=1, window=1, algorithm="fixed_window"),))
)

Asked = TypeVar("Asked")
Found = TypeVar("Found")


class RedisStore:
    """Sends charges over one connection, at most `together` per call.

    `now_us` is for tests: it replaces Redis's clock.
    """

    elsewhere: Sequence[str] = ELSEWHERE
    spans = False  # each decision has all of its counters here

    def __init__(self, connection: RedisConnection, together: int = TOGETHER) -> None:
        self._connection = connection
        self._together = together

    def check(
        self, charges: Sequence[Charge], now_us: int | None = None, loads: Sequence[bytes] = ()
    ) -> list[Outcome | StoreError]:
        """Make one round trip for all charges, in order, or several if the work exceeds what may be outstanding.

        Each charge gets its outcome or its own error. After a failed round trip, later charges are not sent. `loads`
        are SCRIPT LOAD commands to send first. Raises StoreError if the first round trip failed; it is then unknown
        what was charged.
        """
        outcomes: list[Outcome | StoreError] = []
        ahead = loads
        for calls, work_us in round_trips(charges, self._together, MAX_WORK_US):
            try:
                replies = self._call([*ahead, *[packed_call(call, now_us) for call in calls]], "check", work_us)
            except StoreError as error:
                if not outcomes:
                    raise
                outcomes += [error] * (len(charges) - len(outcomes))
                break
            if ahead:
                self._loaded(replies[: len(ahead)])
                del replies[: len(ahead)]
                ahead = ()
            if self._together == 1 < len(replies) and of_single_checks(replies):
                outcomes += read_reply(b"".join(replies), [call[0] for call in calls])
                continue
            for call, reply in zip(calls, replies, strict=True):
                outcomes += self._read(reply, call)
        if not loads and NotRun in map(type, outcomes):
            self._again(charges, outcomes, lambda not_run: RedisStore.check(self, not_run, now_us, LOADS))
        return outcomes

    def _again(
        self,
        asked: Sequence[Asked],
        outcomes: list[Found | StoreError],
        ask: Callable[[Sequence[Asked]], Sequence[Found | StoreError]],
    ) -> None:
        """Repeat what was not run, in the same write as SCRIPT LOAD, so hardly any call intervenes."""
        not_run = [place for place, outcome in enumerate(outcomes) if type(outcome) is NotRun]
        again: Sequence[Found | StoreError]
        try:
            again = ask([asked[place] for place in not_run])
        except StoreError as error:
            if len(not_run) == len(asked):
                raise
            again = [error] * len(not_run)  # what was decided before stays so
        REDIS_ERRORS.labels("check").inc(sum(type(outcome) is NotRun for outcome in again))
        for place, outcome in zip(not_run, again, strict=True):
            outcomes[place] = outcome

    def decide(
        self, parts: Sequence[Part], now_us: int | None = None, loads: Sequence[bytes] = ()
    ) -> list[PartOutcome | StoreError]:
        """Make one call for each part, in order, in round trips as `check` does. `loads` and errors: as there."""
        found: list[PartOutcome | StoreError] = []
        for trip, work_us in part_trips(parts, MAX_WORK_US):
            ahead = [] if found else loads
            try:
                replies = self._call([*ahead, *(packed_part(part, now_us) for part in trip)], "check", work_us)
            except StoreError as error:
                if not found:
                    raise
                found += [error] * (len(parts) - len(found))
                break
            self._loaded(replies[: len(ahead)])
            found += map(self._part_outcome, replies[len(ahead) :], trip)
        if not loads and NotRun in map(type, found):
            self._again(parts, found, lambda not_run: self.decide(not_run, now_us, LOADS))
        return found

    def load_scripts(self) -> None:
        """Load the scripts, so that checks are calls by SHA alone. Safe to repeat. Raises StoreError."""
        self._loaded(self._call(LOADS, "load"))

    def ping(self) -> bool:
        """Whether the server answers a check within the timeout."""
        return self.trouble() is None

    def probes(self) -> list[Charge]:
        """Return a check that charges nothing."""
        return [Charge(LOOK, HEALTH, 0)]

    def trouble(self, client: bytes = HEALTH) -> StoreError | None:
        """Return why the server does not answer a check; None if it does. A PING would not notice a lost script."""
        try:
            [outcome] = self.check([Charge(LOOK, client, 0)])
        except StoreError as error:
            return error
        return outcome if isinstance(outcome, StoreError) else None

    def _read(self, reply: Any, charges: Sequence[Charge]) -> Sequence[Outcome | StoreError]:
        """Return the outcomes of the charges of one call."""
        if type(reply) is bytes:
            return read_reply(reply, charges)
        if type(reply) is list and len(reply) == len(charges):
            return [
                read_part(part, charge) if type(part) is bytes else self._refused(part, "check")
                for part, charge in zip(reply, charges, strict=True)
            ]
        if (code := _code(reply)) in NOT_RUN:
            if code == "CROSSSLOT":  # the server is in a cluster: from now on one check per call
                self._together = 1
            return [NotRun(str(reply))] * len(charges)
        return [self._refused(reply, "check")] * len(charges)

    def _part_outcome(self, reply: Any, part: Part) -> PartOutcome | StoreError:
        code = _code(reply)
        if code in NOT_RUN:
            return NotRun(str(reply))
        return self._refused(reply, "check") if code else read_part_outcome(reply, part)

    def _loaded(self, replies: list[Any]) -> None:
        without_errors([self._refused(reply, "load") for reply in replies if _code(reply)])

    def _call(self, commands: Sequence[bytes], operation: str, work_us: int = 0) -> list[Any]:
        sent = b"".join(commands)
        if operation == "check" and get_current_span().is_recording():  # an unrecorded span has a cost too
            with within(tracer.start_span("redis.evalsha", kind=SpanKind.CLIENT, attributes=EVALSHA)):
                try:
                    return self._connection.call(sent, len(commands), work_us)
                except RedisError as error:
                    raise _lost(operation, error) from error
        try:
            return self._connection.call(sent, len(commands), work_us)
        except RedisError as error:
            raise _lost(operation, error) from error

    def _refused(self, reply: Any, operation: str) -> StoreError:
        code = _code(reply)
        if code in self.elsewhere:
            return Redirected(str(reply))
        REDIS_ERRORS.labels(operation).inc()
        if code in REPLACED or (code == "NOPERM" and operation == "check"):
            # The next connection finds the current primary, and tests the user's permissions there.
            self._connection.drop()
        if code == "OOM":
            return StoreFull(str(reply))
        if code is None:
            return StoreFault(NONSENSE)
        return StoreUnavailable(str(reply)) if code in UNABLE else StoreFault(str(reply))

    def send(self, commands: Sequence[tuple[bytes, ...]], operation: str) -> list[Any]:
        """Return the replies to commands, each a tuple of words, off the path of checks.

        Raises StoreError if any failed.
        """
        return without_errors(self.replies(commands, operation))

    def replies(self, commands: Sequence[tuple[bytes, ...]], operation: str) -> list[Any]:
        """Return the replies as `send` does, with a StoreError in place of each failed one."""
        replies = self.answers([packed(*words) for words in commands], operation)
        return [
            self._refused(reply, operation) if isinstance(reply, hiredis.ReplyError) else reply for reply in replies
        ]

    def answers(self, commands: Sequence[bytes], operation: str) -> list[Any]:
        """Return the replies to packed commands; an error reply is a value. Raises StoreUnavailable."""
        return self._call(commands, operation)

    def drop(self) -> None:
        """Close the connection. The next call opens a new one and tests the permissions again."""
        self._connection.drop()

    def servers(self) -> Sequence[RedisStore]:
        """Return the servers that together have all keys."""
        return [self]


def _lost(operation: str, error: RedisError) -> StoreUnavailable:
    REDIS_ERRORS.labels(operation).inc()
    return StoreUnavailable(str(error), failure=error)


def without_errors(replies: list[Any]) -> list[Any]:
    """Return the replies. Raises the first StoreError among them."""
    for reply in replies:
        if isinstance(reply, StoreError):
            raise reply
    return replies


def _code(reply: Any) -> str | None:
    """Return the first word of an error reply; NOPERM also for a script stopped by a missing permission."""
    if not isinstance(reply, hiredis.ReplyError):
        return None
    said = str(reply)
    return "NOPERM" if said.startswith(NOT_PERMITTED) else said.partition(" ")[0]


def connect(
    url: str, *, timeout_ms: int, clock: Callable[[], float], replaced: Callable[[], bool] = lambda: True
) -> RedisConnection:
    """Return a connection to the single server, or to Sentinel's primary. Opens none yet. `clock`: monotonic seconds.

    A call fails within the timeout and never repeats a command. `replaced` is called after the connection was given up
    because the sentinels name another server, until it returns True.
    """
    endpoint = RedisEndpoint(url, timeout_ms / 1000)
    connection = multiplexed(lambda: opened(), timeout_ms=timeout_ms, clock=clock)
    opened = (
        Sentinels(endpoint, connection.drop, replaced).connect if endpoint.topology == SENTINEL else endpoint.connect
    )
    return connection


def multiplexed(
    opened: Callable[[], AbstractConnection], *, timeout_ms: int, clock: Callable[[], float]
) -> RedisConnection:
    """Return a shared connection that `opened` opens, only to servers where the user has the scripts' permissions."""
    return RedisConnection(
        connect=lambda: RedisSocket(permitted(opened())),
        timeout_seconds=timeout_ms / 1000,
        max_waiting=MAX_WAITING,
        clock=clock,
    )
