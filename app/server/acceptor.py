"""Accepts the connections of one worker: bounded per address and in kernel memory, and none lost at a stop."""

from __future__ import annotations

import socket
import time
from contextlib import suppress
from functools import partial
from typing import Any

from gevent.server import StreamServer

from app.server.refusals import too_many_connections
from app.server.sending import SEND_SECONDS

# Bytes of unsent data that the kernel buffers for a connection, instead of up to 4 MB.
UNSENT_BYTES = 128 * 1024
OPTIONS = {  # of the listening socket; connections inherit them, if the system supports them
    "TCP_NOTSENT_LOWAT": UNSENT_BYTES,
    "TCP_USER_TIMEOUT": round(SEND_SECONDS * 1000),  # also after a close, for data that the kernel still has to send
}
# A stopping worker waits so long for free slots, to accept connections queued in the kernel; half of its grace period.
BACKLOG_SECONDS = 5.0
DISCARDED_BYTES = 64 * 1024
QUIET_SECONDS = 60.0  # between two log lines about refused connections
TOO_MANY = "refused %d connections, the last from %s: one address may have %d to a worker (MAX_CONNECTIONS_PER_ADDRESS)"


class Acceptor(StreamServer):
    """gunicorn's StreamServer. `handler_class` is the worker, whose `handle` gets this as the listener."""

    def __init__(self, listener: Any, *, spawn: Any, handler_class: Any, **rest: Any) -> None:
        ssl = {"ssl_context": rest["ssl_context"]} if "ssl_context" in rest else {}
        super().__init__(listener, handle=partial(handler_class.handle, self), spawn=spawn, **ssl)
        if handler_class.cfg.workers > 1:
            self.max_accept = 1
        self._worker = handler_class
        self._refused = 0  # connections refused since the last log line
        self._logged_at = float("-inf")
        if self.family in (socket.AF_INET, socket.AF_INET6):
            for name, value in OPTIONS.items():
                with suppress(AttributeError, OSError):
                    listener.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
        handler_class.acceptors.append(self)

    def getsockname(self) -> Any:
        """Works also after the close, while older connections are still served."""
        return self.address

    def do_handle(self, client: Any, address: Any) -> None:
        """Runs in the hub: serve the connection, or refuse it at once."""
        if not isinstance(address, tuple) or self._worker.connections_by_address.enter(address[0]):
            super().do_handle(client, address)
        else:
            self._refuse(client, address[0])

    def do_close(self, client: Any, address: Any) -> None:
        super().do_close(client, address)
        if isinstance(address, tuple):
            self._worker.connections_by_address.leave(address[0])

    def close(self) -> None:
        """Stop listening. A stopping worker first accepts connections queued in the kernel, which the close would
        reset.
        """
        if self.started and not self._worker.alive:
            with suppress(OSError):
                self._take_the_rest(time.monotonic() + BACKLOG_SECONDS)
        super().close()

    def _take_the_rest(self, until: float) -> None:
        while self.pool.wait_available(max(until - time.monotonic(), 0)) and (accepted := self.do_read()):
            self.do_handle(*accepted)

    def _refuse(self, client: Any, address: str) -> None:
        client.settimeout(0)
        with suppress(OSError):
            if self.ssl_args is None:
                client.send(too_many_connections(self._worker.connections_by_address.most))
            client.shutdown(socket.SHUT_WR)
            client.recv(DISCARDED_BYTES)  # a close with unread bytes resets the connection, and may destroy the answer
        client.close()
        self._refused += 1
        if (now := time.monotonic()) - self._logged_at >= QUIET_SECONDS:
            self._worker.log.warning(TOO_MANY, self._refused, address, self._worker.connections_by_address.most)
            self._logged_at, self._refused = now, 0
