"""The address of the service, and connecting to it."""

from __future__ import annotations

import os
import re
import socket
import ssl
from typing import Any
from urllib.parse import urlsplit

from ratelimiter_client.arguments import refuse_unless
from ratelimiter_client.http.tls import Secured
from ratelimiter_client.http.transport import Connection, left, over

PORTS = {"http": 80, "https": 443}
PORT = r"(:0*[1-9][0-9]{0,4})?"
AUTHORITY = re.compile(rf"[A-Za-z0-9._-]+{PORT}|\[[0-9A-Fa-f:.]+\]{PORT}")
PREFIX = re.compile(r"[A-Za-z0-9._~/-]*")
API_KEY = re.compile(r"[\x21-\x7e]+")


class Endpoint:
    """The endpoint of a URL like `https://limiter.internal:8000` or `http://10.0.0.7/limits`. Raises ValueError for any
    other.
    """

    def __init__(self, url: str, api_key: str | None, ca_file: str | None) -> None:
        refuse_unless(isinstance(url, str), "url", url, "text")
        refuse_unless(api_key is None or isinstance(api_key, str), "api_key", type(api_key).__name__, "text")
        refuse_unless(ca_file is None or isinstance(ca_file, (str, os.PathLike)), "ca_file", ca_file, "a path")
        parts = urlsplit(url)
        if parts.scheme not in PORTS or not AUTHORITY.fullmatch(parts.netloc) or parts.query or parts.fragment:
            shown = re.sub(".*@", "***@", url)  # a user and a password must not reach logs
            raise ValueError(f"url is {shown!r}, allowed is http://HOST:PORT or https://HOST:PORT, and a path")
        if not PREFIX.fullmatch(parts.path):
            raise ValueError(f"the path of url is {parts.path!r}, allowed are letters, digits and . _ ~ - /")
        if api_key is not None and not API_KEY.fullmatch(api_key):
            raise ValueError("api_key has characters other than visible ASCII")
        self.url = url
        self.host: str = parts.hostname or ""
        try:
            self.host.encode("idna")  # fails now rather than with each look-up
            self.port: int = parts.port or PORTS[parts.scheme]
        except ValueError as error:
            raise ValueError(f"url is {url!r}, allowed is a host and a port that can be: {error}") from None
        self.tls: ssl.SSLContext | None = _trusting(ca_file) if parts.scheme == "https" else None
        self.prefix: str = parts.path.rstrip("/")
        key = "" if api_key is None else f"Authorization: Bearer {api_key}\r\n"
        kind = "Content-Type: application/json\r\nUser-Agent: ratelimiter-client\r\n"
        self.fields: str = f"Host: {parts.netloc}\r\n{kind}{key}"

    def connect(self, deadline: float) -> Connection:
        """Connect to the first of its addresses that answers in its share of the time. Raises OSError, socket.timeout.

        The deadline does not bound the system's look-up of a name; an address needs none.
        """
        addresses = socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)
        for tried, (family, _, _, _, address) in enumerate(addresses):
            shares = len(addresses) - tried
            try:
                return self._connected(family, address, deadline, shares)
            except OSError:
                if shares == 1:
                    raise
        raise OSError(f"{self.host} has no address")

    def _connected(self, family: int, address: Any, deadline: float, shares: int) -> Connection:
        connection = socket.socket(family, socket.SOCK_STREAM)
        try:
            connection.settimeout(left(deadline) / shares)
            connection.connect(address)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return over(connection) if self.tls is None else self._secured(connection, self.tls, deadline)
        except BaseException:
            connection.close()
            raise

    def _secured(self, connection: socket.socket, tls: ssl.SSLContext, deadline: float) -> Connection:
        secured = Secured(connection, tls, self.host)
        secured.settimeout(left(deadline))
        secured.handshake()
        return Connection(secured)


def _trusting(ca_file: str | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_file)
    except OSError as error:  # its message does not name the file
        raise ValueError(f"ca_file is {ca_file!r}, allowed is a file of certificates: {error}") from error
