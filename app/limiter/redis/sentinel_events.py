"""Subscribes to the sentinels' failover events, as hints to ask them at once.

The sentinels are asked regularly anyway. So a lost event costs only the time until then, retries need no haste, and
errors stay inside.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Any, cast

import gevent
from gevent.socket import wait_read
from redis.connection import AbstractConnection
from redis.exceptions import ConnectionError

from app.limiter.redis.endpoint import Address, RedisEndpoint

log = logging.getLogger(__name__)

# The sentinel in charge sends the first once the replica reports itself as primary. Every sentinel sends the second.
CHANNELS = ("+promoted-slave", "+switch-master")
FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 0.5, 15.0
PING_AFTER_SECONDS = 15.0  # of silence before a sentinel is pinged


class SentinelEvents:
    """Belongs to one worker. `hint` is called at a failover of the primary that `endpoint` names."""

    def __init__(self, endpoint: RedisEndpoint, hint: Callable[[], None]) -> None:
        self._endpoint = endpoint
        self._hint = hint
        self._listening: dict[Address, gevent.Greenlet[..., Any]] = {}

    def follow(self, sentinels: Iterable[Address]) -> None:
        """Listen to exactly these sentinels, each over its own connection."""
        wanted = set(sentinels)
        for sentinel in wanted - self._listening.keys():
            self._listening[sentinel] = gevent.spawn(self._listen, sentinel)
        for sentinel in self._listening.keys() - wanted:
            self._listening.pop(sentinel).kill(block=False)

    def _listen(self, sentinel: Address) -> None:
        wait_seconds = FIRST_WAIT_SECONDS
        while True:
            try:
                connection = self._endpoint.connect_to_sentinel(sentinel)
                try:
                    _subscribe(connection)
                    wait_seconds = FIRST_WAIT_SECONDS
                    self._read_message(connection)
                finally:
                    connection.disconnect()
            except Exception as error:  # after any error, the sentinels are still asked every second
                log.debug("no news of sentinel %s: %s", sentinel, error)
            gevent.sleep(wait_seconds)
            wait_seconds = min(2 * wait_seconds, LONGEST_WAIT_SECONDS)

    def _read_message(self, connection: AbstractConnection) -> None:
        """Read events. Never returns; raises RedisError."""
        while True:
            if not _readable(connection, PING_AFTER_SECONDS):
                connection.send_command("PING")
                if not _readable(connection, self._endpoint.timeout_seconds):
                    raise ConnectionError("it says nothing any more")
            kind, *said = connection.read_response()
            if kind == b"message" and self._endpoint.master.encode() in said[-1].split():
                self._hint()


def _subscribe(connection: AbstractConnection) -> None:
    """Subscribe. Raises RedisError, for instance if the user lacks the permission."""
    connection.send_command("SUBSCRIBE", *CHANNELS)
    for _ in CHANNELS:
        connection.read_response()


def _readable(connection: AbstractConnection, seconds: float) -> bool:
    """Whether input arrives within this time."""
    if connection.can_read():
        return True
    try:
        wait_read(cast(Any, connection)._sock.fileno(), timeout=seconds)
    except TimeoutError:
        return False
    return True
