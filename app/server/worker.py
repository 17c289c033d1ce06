"""The gunicorn workers: gevent's with bounded connections, and one that answers canonical checks without Flask."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
from typing import Any

import gevent
from gunicorn.util import close, write_error
from gunicorn.workers.ggevent import GeventWorker

from app.api.request_body import BODY_SECONDS
from app.server.acceptor import Acceptor
from app.server.bounded_socket import READ_BYTES, BoundedSocket
from app.server.connections_by_address import ConnectionsByAddress
from app.server.fast_lane import FastLane
from app.server.idle_timeouts import IdleTimeouts
from app.server.refusals import refusal

HEAD_SECONDS = 5.0  # bounds a connection's only head where connections are not kept alive


class Worker(GeventWorker):
    """gunicorn's gevent worker on bounded sockets. Refusals of heads reach the client, reveal no secret, are no 5xx."""

    server_class = Acceptor

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.acceptors: list[Acceptor] = []
        self.wsgi_handler = self  # gunicorn passes it to `server_class`

    @cached_property
    def connections_by_address(self) -> ConnectionsByAddress:
        """Counts the connections of this worker by their address."""
        settings = self.wsgi.extensions["ratelimiter"].settings
        return ConnectionsByAddress(most=settings.max_connections_per_address, trusted=settings.trusted_proxies)

    def hurried(self) -> bool:
        """Whether waiting connections are in the way: the worker is to stop, or has no free slot."""
        return not self.alive or any(acceptor.full() for acceptor in self.acceptors)

    @cached_property
    def idle_timeouts(self) -> IdleTimeouts:
        """Bounds how long this worker's connections may be idle, or take for a head."""
        return IdleTimeouts(self.cfg.keepalive or HEAD_SECONDS, self.hurried)

    def timeout_ctx(self) -> AbstractContextManager[None]:
        """No timeout here: `idle_timeouts` ends a head that does not come in time."""
        return nullcontext()

    def handle(self, listener: Any, client: Any, addr: Any) -> None:
        self.handle_rest(listener, client, addr, b"")

    def handle_rest(self, listener: Any, client: Any, addr: Any, read: bytes) -> None:
        """Serve a connection by gunicorn's own machinery. `read`: the bytes that were read already."""
        bounded = BoundedSocket(client, hurried=self.hurried, read=read)
        with self.idle_timeouts.watching(bounded):
            super().handle(listener, bounded, addr)

    def handle_request(self, listener_name: Any, req: Any, sock: Any, addr: Any) -> None:
        sock.expect_body()
        super().handle_request(listener_name, req, sock, addr)
        self._skip_body(req)
        if sock.expect_head(req.unreader.take_buffered()):
            gevent.sleep(0)  # one request of a pipeline in each event-loop turn, as for other connections

    def _skip_body(self, req: Any) -> None:
        """Read the rest of a body, which would be parsed as the next head. Raises StopIteration, which ends the
        connection, if it does not come in time.
        """
        if getattr(req.body.reader, "length", None) == 0:  # nothing is left: nearly always
            return
        with gevent.Timeout(BODY_SECONDS, False):
            while req.body.read(READ_BYTES):
                pass
            return
        raise StopIteration

    def handle_error(self, _: Any, client: Any, addr: Any, exc: BaseException) -> None:
        """Answer and log the kind of error, and nothing that was sent."""
        if isinstance(exc, gevent.GreenletExit):  # the worker stops, and has waited long enough
            return
        refused = refusal(exc)
        if refused is None:
            self.log.error("cannot serve a connection", exc_info=exc)
        else:
            self.log.warning("refused a request from %s: %s", addr[0] if addr else "a local socket", refused[1])
        line, wording = refused or ("500 Internal Server Error", "")
        status, _, reason = line.partition(" ")
        try:
            write_error(client, int(status), reason, wording)
        except OSError:
            return
        client.close_gracefully()


class FastLaneWorker(Worker):
    """Answers canonical checks by the check handler alone.

    At the first request that is not canonical, the connection goes to gunicorn's own machinery, with the bytes already
    read, and stays there. With TLS, the PROXY protocol or access logs, gunicorn's machinery serves all connections.
    """

    _lane: FastLane | None = None

    def handle(self, listener: Any, client: Any, addr: Any) -> None:
        handed: bytes | None = b""
        if self._open():
            try:
                handed = self._lane_of_this_worker().serve(client)
            except OSError as error:
                self.log.debug("Closing connection. %s", error)
                handed = None
        if handed is None:
            close(client)
        else:
            self.handle_rest(listener, client, addr, handed)

    def _open(self) -> bool:
        cfg = self.cfg
        return not (cfg.is_ssl or cfg.accesslog or cfg.statsd_host or cfg.proxy_protocol != "off" or not cfg.keepalive)

    def _lane_of_this_worker(self) -> FastLane:
        if self._lane is None:
            self._lane = FastLane(self, self.wsgi.extensions["ratelimiter"].check_handler)
        return self._lane
