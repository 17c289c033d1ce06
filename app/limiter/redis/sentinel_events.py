"""Listens to the sentinels' word that a primary is being replaced. A hint: the sentinels are asked at once.

A word that is lost costs no more than the time until they are asked anyway, so nothing here is retried in haste, and no
error matters to anybody else.
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

# The first is said by the sentinel in charge once the replica calls itself the primary, the other by each of them.
CHANNELS = ("+promoted-slave", "+switch-master")
FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 0.5, 15.0
SILENCE_SECONDS = 15.0  # after which a sentinel is asked whether it is still there


class SentinelEvents:
    """Of one worker. `hint` is called when a sentinel tells of a failover of the primary that `servers` names."""

    def __init__(self, endpoint: RedisEndpoint, hint: Callable[[], None]) -> None:
        self._endpoint = endpoint
        self._hint = hint
        self._listening: dict[Address, gevent.Greenlet[..., Any]] = {}

    def follow(self, sentinels: Iterable[Address]) -> None:
        """Listen to these, each over a connection of its own, and to no others."""
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
            except Exception as error:  # whatever it is, the sentinels are asked every second
                log.debug("no news of sentinel %s: %s", sentinel, error)
            gevent.sleep(wait_seconds)
            wait_seconds = min(2 * wait_seconds, LONGEST_WAIT_SECONDS)

    def _read_message(self, connection: AbstractConnection) -> None:
        """Never returns. Raises RedisError."""
        while True:
            if not _readable(connection, SILENCE_SECONDS):
                connection.send_command("PING")
                if not _readable(connection, self._endpoint.timeout_seconds):
                    raise ConnectionError("it says nothing any more")
            kind, *said = connection.read_response()
            if kind == b"message" and self._endpoint.master.encode() in said[-1].split():
                self._hint()


def _subscribe(connection: AbstractConnection) -> None:
    """Raises RedisError, for instance where the user may not."""
    connection.send_command("SUBSCRIBE", *CHANNELS)
    for _ in CHANNELS:
        connection.read_response()


def _readable(connection: AbstractConnection, seconds: float) -> bool:
    """Whether there is something to read within so long."""
    if connection.can_read():
        return True
    try:
        wait_read(cast(Any, connection)._sock.fileno(), timeout=seconds)
    except TimeoutError:
        return False
    return True
