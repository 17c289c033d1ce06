"""Questions to a server before checks rely on it: the user's permissions, and whether it has all keys.

A script that lacks a permission ends at that command, after its earlier writes. One limit may then be charged and
another not, or a counter may never expire. So no connection opens without the permissions, and `fail_mode` decides.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from typing import Any

import hiredis
from redis.connection import AbstractConnection
from redis.exceptions import AskError, ConnectionError, NoPermissionError, RedisError, ResponseError

from app.limiter.keys import CLUSTER_SLOTS, HEALTH, health_key
from app.limiter.redis.endpoint import SINGLE, RedisEndpoint
from app.limiter.redis.packing import packed
from app.limiter.redis.scripts import all_scripts, permissions_script

CALLED = re.compile(rb"redis\.call\('(\w+)'")
COMMANDS = tuple(sorted({name for script in all_scripts() for name in CALLED.findall(script.source)}))
INFO = b"INFO"
ASKING = ("SCRIPT LOAD", "EVALSHA")
PARTS = 64  # of a cluster's slots, each tested by one key
START_SECONDS = 1.0


class MissingPermission(ConnectionError):
    """`commands`: those that the scripts need and the Redis user may not run."""

    def __init__(self, commands: str) -> None:
        super().__init__(f"the Redis user may not run {commands}, which the scripts need")
        self.commands = commands


def permission_commands(*also: bytes) -> tuple[bytes, bytes]:
    """Return two commands whose answers `missing_among` reads. `also`: commands to test beside those of the scripts."""
    script = permissions_script()
    test = packed(b"EVALSHA", script.sha, b"0", HEALTH, *COMMANDS, *also)
    return packed(b"SCRIPT", b"LOAD", script.source), test


def missing_among(answers: Sequence[Any]) -> list[str]:
    """Return the commands that the user may not run; none if the server cannot tell now or its answer is malformed."""
    refused = [name for name, reply in zip(ASKING, answers, strict=True) if _is(reply, "NOPERM", NoPermissionError)]
    found = answers[1].split() if isinstance(answers[1], bytes) else []
    return refused or [name.decode() for name in found if name in (*COMMANDS, INFO)]


def permitted(connection: AbstractConnection) -> AbstractConnection:
    """Return the connection. Raises MissingPermission, or another error of the connection; it is then closed."""
    try:
        connection.send_packed_command(list(permission_commands()))
        missing = missing_among([_answer(connection), _answer(connection)])
        if missing:
            raise MissingPermission(", ".join(missing))
    except BaseException:
        connection.disconnect()
        raise
    return connection


@cache
def membership_commands() -> tuple[bytes, ...]:
    """Return commands whose answers `is_elsewhere` reads: each reads a key in another part of a cluster's slots."""
    parts = (range(CLUSTER_SLOTS * part // PARTS, CLUSTER_SLOTS * (part + 1) // PARTS) for part in range(PARTS))
    return tuple(packed(b"GET", health_key(slots.__contains__)) for slots in parts)


def is_elsewhere(reply: Any) -> bool:
    """Whether the key is at another server. Only members of a cluster answer this."""
    return _is(reply, "MOVED", AskError) or _is(reply, "ASK", AskError)


def names_a_member(url: str) -> bool:
    """Whether `url` names a single server that is a member of a cluster, and so has only some of the keys.

    Each step may take START_SECONDS. False if the server does not answer.
    """
    endpoint = RedisEndpoint(url, START_SECONDS)
    if endpoint.topology != SINGLE:
        return False
    try:
        connection = endpoint.connect()
    except (RedisError, OSError):
        return False
    try:
        connection.send_packed_command(list(membership_commands()))
        return any(is_elsewhere(_answer(connection)) for _ in membership_commands())
    except (RedisError, OSError):
        return False
    finally:
        connection.disconnect()


def _answer(connection: AbstractConnection) -> Any:
    try:
        return connection.read_response()
    except ResponseError as error:
        return error


def _is(reply: Any, code: str, kind: type[ResponseError]) -> bool:
    """Whether it is this error: by `code` in a reply of RedisConnection, by `kind` in one of redis-py."""
    return isinstance(reply, kind) or (isinstance(reply, hiredis.ReplyError) and str(reply).startswith(f"{code} "))
