"""HTTP/1.1 over a transport of an event loop, with the same reader as over a socket."""

from __future__ import annotations

import asyncio
import socket
import time
from contextlib import suppress
from ipaddress import ip_address
from typing import Any, Awaitable, Callable, TypeVar

from ratelimiter_client.errors import ProtocolError
from ratelimiter_client.http.endpoint import Endpoint
from ratelimiter_client.http.transport import READ_BYTES, Answer, AnswerReader, closed, left

T = TypeVar("T")


class Connection(asyncio.BufferedProtocol):
    """One connection, used by one task at a time. Close it after any error.

    It has its own buffer: event loops would allocate 256 KiB for each answer.
    """

    def __init__(self) -> None:
        self._buffer = memoryview(bytearray(READ_BYTES))
        self._transport: asyncio.Transport | None = None
        self._feed: Callable[[bytes], Answer | None] = AnswerReader(0).feed
        self._waiter: asyncio.Future[Answer] | None = None

    def send(self, request: bytes, most: int, waiter: asyncio.Future[Answer]) -> None:
        """Send the request. `waiter` gets its answer, with a body of at most `most` bytes, or an OSError or
        ProtocolError. Others may end `waiter` first, as at its deadline.
        """
        self._feed, self._waiter = AnswerReader(most).feed, waiter
        if self._transport is None:
            raise closed()
        self._transport.write(request)

    def idle(self) -> bool:
        """Whether the connection is open and silent since its last answer, as far as its loop has seen."""
        return self._transport is not None and not self._transport.is_closing()

    def close(self) -> None:
        """Close at once: data that was not sent is lost."""
        if self._transport is not None:
            with suppress(RuntimeError):  # its loop is closed, and with the transport the socket
                self._transport.abort()

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        waiter = self._waiter
        if waiter is None or waiter.done():  # an answer without a request
            self.close()
            return
        try:
            answer = self._feed(bytes(self._buffer[:nbytes]))
        except ProtocolError as error:
            waiter.set_exception(error)
            return
        if answer is not None:
            waiter.set_result(answer)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(exc or closed())


async def connect(endpoint: Endpoint, deadline: float) -> Connection:
    """Connect to the first of the endpoint's addresses that answers in its share of the time. Raises OSError,
    socket.timeout.
    """
    addresses = await _addresses(endpoint, deadline)
    for tried, (family, _, _, _, address) in enumerate(addresses):
        shares = len(addresses) - tried
        try:
            return await _connected(endpoint, family, address, deadline, shares)
        except OSError:
            if shares == 1:
                raise
    raise OSError(f"{endpoint.host} has no address")


async def _addresses(endpoint: Endpoint, deadline: float) -> list[Any]:
    """Only the system can look up a name, in a thread of the event loop; an address needs no look-up."""
    host, port, kind = endpoint.host, endpoint.port, socket.SOCK_STREAM
    try:
        ip_address(host)
    except ValueError:
        return await _within(asyncio.get_running_loop().getaddrinfo(host, port, type=kind), deadline)
    return socket.getaddrinfo(host, port, type=kind, flags=socket.AI_NUMERICHOST)


async def _connected(endpoint: Endpoint, family: int, address: Any, deadline: float, shares: int) -> Connection:
    loop = asyncio.get_running_loop()
    until = time.monotonic() + left(deadline) / shares
    plain = socket.socket(family, socket.SOCK_STREAM)
    try:
        plain.setblocking(False)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await _within(loop.sock_connect(plain, address), until)
    except BaseException:
        plain.close()
        raise
    connection = Connection()
    host = endpoint.host if endpoint.tls else None
    made = loop.create_connection(lambda: connection, sock=plain, ssl=endpoint.tls, server_hostname=host)
    try:
        await _within(made, deadline)
    except BaseException:
        connection.close()
        raise
    return connection


async def _within(step: Awaitable[T], deadline: float) -> T:
    """Await `step`. Raises socket.timeout after the deadline (monotonic)."""
    try:
        return await asyncio.wait_for(step, max(0.0, deadline - time.monotonic()))
    except asyncio.TimeoutError:
        raise socket.timeout("the time for the call is up") from None
