"""Parses REDIS_URL: the servers, how to find the one that decides, and how to connect to each.

redis://, rediss:// (TLS) and unix:// are redis-py's own. Sentinel and Cluster URLs name several servers:

    redis+sentinel://user:password@sentinel:26379,sentinel:26379/master[/database]?sentinel_password=…
    redis+cluster://user:password@node:6379,node:6379

User and password are for the servers that decide. rediss+sentinel:// and rediss+cluster:// use TLS for all servers.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import redis
from redis.backoff import NoBackoff
from redis.connection import AbstractConnection
from redis.exceptions import RedisError
from redis.retry import Retry

SINGLE, SENTINEL, CLUSTER = "single", "sentinel", "cluster"
ALLOWED = "redis://…, rediss://… (TLS), unix://…, redis+sentinel://host:port,…/master, redis+cluster://host:port,…"
HOST_AND_PORT = re.compile(r"(?P<host>[\w.-]+|\[[0-9A-Fa-f:.]+\])(?::(?P<port>\d{1,5}))?")
PORTS = {SENTINEL: 26379, CLUSTER: 6379}


class Address(NamedTuple):
    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class RedisEndpoint:
    """Raises ValueError, which says what is allowed. Opens no connection yet; each later step may take the timeout."""

    def __init__(self, url: str, timeout_seconds: float = 1.0) -> None:
        self.timeout_seconds = timeout_seconds
        self.addresses: tuple[Address, ...] = ()
        self.master = ""
        try:
            self.topology, single = self._read(url)
            self._options = _options(single)
        except ValueError:
            raise ValueError(ALLOWED) from None
        own = {name: self._options.pop(f"sentinel_{name}", None) for name in ("username", "password")}
        self._of_sentinels = own | {"db": 0}
        self._options |= {
            "protocol": 2,
            "decode_responses": False,
            "socket_timeout": timeout_seconds,
            "socket_connect_timeout": timeout_seconds,
            "retry": Retry(NoBackoff(), 0),  # a command is never repeated
        }
        self._class = self._options.pop("connection_class", redis.Connection)
        self._connection()  # refuses unknown options here

    def connect(self, address: Address | None = None) -> AbstractConnection:
        """Return a connection to the single server, or to `address`, on which commands can be sent.

        Raises RedisError.
        """
        return _connected(self._connection(address))

    def connect_to_sentinel(self, address: Address) -> AbstractConnection:
        return _connected(self._connection(address, **self._of_sentinels))

    def _connection(self, address: Address | None = None, **instead: Any) -> AbstractConnection:
        where = address._asdict() if address else {}
        try:
            connection: AbstractConnection = self._class(**self._options | where | instead)
        except TypeError as error:
            raise ValueError(f"{ALLOWED}, with options that exist ({str(error).partition('() ')[2]})") from None
        return connection

    def _read(self, url: str) -> tuple[str, str]:
        """Set the servers; return the topology, and the URL of a single server with the same options."""
        parts = urlsplit(url)
        scheme, plus, topology = parts.scheme.partition("+")
        if not plus:
            if scheme != "unix" and not (parts.path.strip("/") or "0").isdecimal():
                raise ValueError  # redis-py would treat any other word as database 0
            _require_name(parts.hostname or "")
            return SINGLE, url
        account, at, hosts = parts.netloc.rpartition("@")
        self.master, _, database = parts.path.strip("/").partition("/")
        if topology == CLUSTER and self.master == "0":  # a cluster has no other database
            self.master = ""
        if (
            topology not in PORTS
            or scheme == "unix"
            or bool(self.master) != (topology == SENTINEL)
            or not (database or "0").isdecimal()
        ):
            raise ValueError
        self.addresses = tuple(_address(host, PORTS[topology]) for host in hosts.split(","))
        return topology, f"{scheme}://{account}{at}{self.addresses[0]}/{database}?{parts.query}"


def _options(url: str) -> dict[str, Any]:
    """Return the URL's options as redis-py reads them."""
    if urlsplit(url).port == 0:
        raise ValueError
    pool = redis.ConnectionPool.from_url(url)
    return {"connection_class": pool.connection_class} | pool.connection_kwargs


def _address(text: str, default: int) -> Address:
    found = HOST_AND_PORT.fullmatch(text)
    port = int(found["port"] or default) if found else 0
    if not found or not 0 < port < 65_536:
        raise ValueError
    _require_name(found["host"])
    return Address(found["host"].strip("[]"), port)


def _require_name(host: str) -> None:
    """Raises ValueError for a name that no name server can resolve, such as `redis..svc`."""
    host.removesuffix(".").encode("idna")


def _connected(connection: AbstractConnection) -> AbstractConnection:
    try:
        connection.connect()
    except RedisError:
        connection.disconnect()
        raise
    return connection
