"""Checks now and then, outside the path of checks, whether the Redis in use can keep its promises.

Checks alone do not reveal three faults. The user may lack permissions for the scripts. `redis://` may name a cluster
member, so that the clients of other members have no limits. Memory may be full, or may evict counters.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from app.limiter.errors import StoreError, StoreFull, StoreUnavailable
from app.limiter.keys import IN_USE_BY, Keyspace
from app.limiter.redis.packing import packed
from app.limiter.redis.preflight import (
    INFO,
    MissingPermission,
    is_elsewhere,
    membership_commands,
    missing_among,
    permission_commands,
)
from app.limiter.store import InspectedServer, InspectedStore, RuleSource

FULL = 0.95  # fraction of maxmemory: beyond it, the new clients of the next minutes may not fit
IN_USE_SECONDS, MARK_SECONDS = 300, b"3600"  # longer than several inspections by all nodes
MARK, NUMBER = re.compile(rb"(\d{1,12}\.\d{3}) ([0-9a-f]{16})"), re.compile(r"[0-9]{1,18}")
USED_BY = re.compile(rb"([0-9a-f]{16})(?: ([0-9a-f]{16}) (\d{1,12}))?")

CANNOT = "Redis cannot decide checks: {}"
MISSING = (
    "the Redis user may not run {}, so Redis decides nothing and fail_mode decides: grant the ACL in docs/operations.md"
)
MEMBER = "REDIS_URL names a member of a cluster, so fail_mode decides for some clients: use redis+cluster://"
EVICTS = "Redis forgets limits when its memory is full: maxmemory-policy is {}, use noeviction"
NEARLY = "the memory of Redis is full or nearly full: raise maxmemory, or bound new clients"
REFUSES = "Redis is full and refuses charges, so fail_mode decides the checks that it would admit: {}"


@dataclass(slots=True)
class Findings:
    """`causes`: texts by reason label. `unable`: Redis cannot decide all checks. `memory_used`: fraction of maxmemory.

    `shared`: another deployment uses this Redis too. `mark`: the Unix time at which it was made and its value, the same
    for all nodes that use this Redis; None if unknown.
    """

    causes: dict[str, str] = field(default_factory=dict)
    unable: bool = False
    memory_used: float = 0.0
    shared: bool = False
    mark: tuple[float, str] | None = None


class RedisInspection:
    """Inspects through `store`, whose connections no check waits for. `deciding` is the store that checks use.

    `single`: the URL names one server. `clock` is Unix time in seconds.
    """

    def __init__(
        self,
        *,
        store: InspectedStore,
        deciding: InspectedStore,
        single: bool,
        rules: RuleSource,
        clock: Callable[[], float],
    ) -> None:
        self._store = store
        self._deciding = deciding
        self._single = single
        self._rules = rules
        self._clock = clock
        self._missing = ""

    def look(self) -> Findings:
        """Inspect Redis, in a few round trips to each server."""
        found = Findings()
        try:
            for server in self._store.servers():
                self._look_at(server, found)
            if not found.unable:
                self._leave_marks(found)
        except StoreFull as error:
            found.causes["redis_full"], found.unable = REFUSES.format(error), True
        except StoreUnavailable as error:
            if isinstance(error.failure, MissingPermission):
                self._not_permitted(error.failure.commands, found)
            else:
                found.causes["redis"], found.unable = CANNOT.format(error), True
        except StoreError as error:
            found.causes["redis"], found.unable = CANNOT.format(error), True
        if "redis_permission" not in found.causes:
            self._missing = ""
        return found

    def _look_at(self, server: InspectedServer, found: Findings) -> None:
        probes = membership_commands() if self._single else ()
        answers = server.answers([*permission_commands(INFO), *probes], "look")
        missing = missing_among(answers[:2])
        may_look = INFO.decode() not in missing
        missing = [name for name in missing if name != INFO.decode()]
        if missing:
            self._not_permitted(", ".join(missing), found)
            server.drop()
            return
        if any(map(is_elsewhere, answers[2:])):
            found.causes["redis_cluster_member"], found.unable = MEMBER, True
        if may_look:
            [told] = server.answers([packed(INFO, b"memory")], "look")
            _judge_memory(told, found)

    def _not_permitted(self, commands: str, found: Findings) -> None:
        """Drop the connections of checks, once: no new connection will open without the permissions."""
        if commands != self._missing:
            self._missing = commands
            with suppress(StoreError):
                for server in self._deciding.servers():
                    server.drop()
        found.causes["redis_permission"], found.unable = MISSING.format(commands), True

    def _leave_marks(self, found: Findings) -> None:
        """Write the deployment marks. Raises StoreError; StoreFull if Redis takes no writes."""
        book = self._rules.book
        if book is None:
            return
        keyspace = Keyspace(book.ruleset_id.key_secret)
        now = self._clock()
        [used_by] = self._store.send([(b"GET", IN_USE_BY)], "look")
        others = _others(used_by, keyspace.deployment, now)
        made = b"%.3f %b" % (now, secrets.token_hex(8).encode())
        _, _, mark, _ = self._store.send(
            [
                (b"SET", IN_USE_BY, b" ".join((keyspace.deployment, *others)), b"EX", b"%d" % IN_USE_SECONDS),
                (b"SET", keyspace.mark, made, b"EX", MARK_SECONDS, b"NX"),
                (b"GET", keyspace.mark),
                (b"EXPIRE", keyspace.mark, MARK_SECONDS),
            ],
            "look",
        )
        found.shared = bool(others)
        read = MARK.fullmatch(mark) if isinstance(mark, bytes) else None
        found.mark = (float(read[1]), read[2].decode()) if read else None


def _others(used_by: Any, ours: bytes, now: float) -> tuple[bytes, ...]:
    """Return another deployment that used this Redis lately, and when (Unix seconds); () if there is none.

    `used_by` holds the deployment of the last inspection, and another one that it knew.
    """
    read = USED_BY.fullmatch(used_by) if isinstance(used_by, bytes) else None
    if read is None:
        return ()
    last, other, at = read.groups()
    if last != ours:
        return last, b"%d" % now
    return (other, at) if other is not None and now - int(at) < IN_USE_SECONDS else ()


def _judge_memory(told: Any, found: Findings) -> None:
    """Judge the answer to INFO memory. An error, or an answer without the figures, proves nothing."""
    lines = told.decode(errors="replace").split("\r\n") if isinstance(told, bytes) else []
    says = dict(line.split(":", 1) for line in lines if ":" in line)
    figures = {name: int(value) for name, value in says.items() if NUMBER.fullmatch(value)}
    bound, policy = figures.get("maxmemory", 0), says.get("maxmemory_policy", "noeviction")
    used = figures.get("used_memory", 0) / bound if bound else 0.0
    found.memory_used = max(found.memory_used, used)
    if bound and policy != "noeviction":
        found.causes["redis_evicts"] = EVICTS.format(policy)
    elif used >= FULL:
        found.causes["redis_full"] = NEARLY
