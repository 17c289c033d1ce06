"""Finds the primary that the sentinels name, each time a connection to it is opened, and notices when it is replaced.

A primary that was replaced by order, or is cut off from the sentinels alone, goes on taking charges that will be lost:
for about ten seconds, measured. So the sentinels are asked once a second whether it is still the one.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable
from typing import Any, TypeVar

import gevent
from redis.connection import AbstractConnection
from redis.exceptions import ConnectionError, RedisError

from app.limiter.redis_url import Address, Servers
from app.observability.background import forever

T = TypeVar("T")

WATCH_SECONDS = 1.0
KNOWN = 16  # sentinels, of which any may be away


class Sentinels:
    """Of one worker. A sentinel that answers is asked first the next time; others it tells of are remembered.

    `replaced` is called when another primary is named than the one that was connected to.
    """

    def __init__(self, servers: Servers, replaced: Callable[[], None]) -> None:
        self._servers = servers
        self._replaced = replaced
        self._known = list(servers.addresses)
        self._primary: Address | None = None
        self._watching = False

    def connect(self) -> AbstractConnection:
        """A connection to a server that says itself that it is the primary. Raises RedisError when there is none.

        Each step takes the timeout at most: three for a sentinel that answers, one for a dead one.
        """
        if not self._watching:
            self._watching = True
            gevent.spawn(forever, "watching the sentinels", self._watch)
        return self._first(self._opened)

    def _watch(self) -> None:
        gevent.sleep(WATCH_SECONDS * random.uniform(0.8, 1.2))
        before = self._primary
        with contextlib.suppress(RedisError):
            if self._first(lambda named: named) != before == self._primary:
                self._replaced()

    def _first(self, use: Callable[[Address], T]) -> T:
        """What `use` makes of the primary that a sentinel names, by the first sentinel with which it succeeds."""
        failures = []
        for sentinel in list(self._known):
            try:
                primary, others = self._ask(sentinel)
                used = use(primary)
            except RedisError as error:
                failures.append(f"{sentinel} ({error})")
            else:
                self._known = remembered(sentinel, self._known, others)
                return used
        raise ConnectionError(f"no sentinel names a primary of {self._servers.master}: {', '.join(failures)}")

    def _ask(self, sentinel: Address) -> tuple[Address, list[Address]]:
        connection = self._servers.connect_to_sentinel(sentinel)
        try:
            master = self._servers.master
            asked = [("SENTINEL", "GET-MASTER-ADDR-BY-NAME", master), ("SENTINEL", "SENTINELS", master)]
            connection.send_packed_command(connection.pack_commands(asked))
            found, others = connection.read_response(), connection.read_response()
        finally:
            connection.disconnect()
        if not found:
            raise ConnectionError(f"knows no primary of {master}")
        return _address(*found), [_address(other[b"ip"], other[b"port"]) for other in map(_fields, others)]

    def _opened(self, address: Address) -> AbstractConnection:
        connection = self._servers.connect(address)
        try:
            connection.send_command("ROLE")
            role: list[Any] = connection.read_response()
            if role[0] != b"master":
                raise ConnectionError(f"{address} is no primary")
        except BaseException:
            connection.disconnect()
            raise
        self._primary = address
        return connection


def remembered(answered: Address, known: list[Address], others: list[Address]) -> list[Address]:
    """Who to ask the next time, in this order: those of the URL never give way to others."""
    return list(dict.fromkeys([answered, *known, *others]))[:KNOWN]


def _address(host: bytes, port: bytes) -> Address:
    return Address(host.decode(), int(port))


def _fields(flat: list[bytes]) -> dict[bytes, bytes]:
    return dict(zip(flat[::2], flat[1::2], strict=True))
