"""The gunicorn workers: gevent's, with refusals that arrive, and the one that answers plain checks without Flask."""

from __future__ import annotations

from typing import Any

from gunicorn.http.errors import InvalidHeader, UnsupportedTransferCoding
from gunicorn.util import close, close_graceful
from gunicorn.workers.ggevent import GeventWorker

from app.server.connection import UNREAD_BYTES
from app.server.fast_lane import FastLane


class Worker(GeventWorker):
    """gunicorn's gevent worker, whose refusals of heads arrive, and are never a 5xx."""

    def handle_error(self, req: Any, client: Any, addr: Any, exc: BaseException) -> None:
        if isinstance(exc, UnsupportedTransferCoding):
            exc = InvalidHeader("TRANSFER-ENCODING")
        super().handle_error(req, client, addr, exc)
        close_graceful(client, max_drain=UNREAD_BYTES)


class FastLaneWorker(Worker):
    """Answers plain checks by the check handler alone.

    At the first request that is not plain, the connection goes to gunicorn's own machinery, with the bytes already
    read, and stays there. What only that machinery does (TLS, the PROXY protocol, access logs) it does for all.
    """

    _lane: FastLane | None = None

    def handle(self, listener: Any, client: Any, addr: Any) -> None:
        handed: Any = client
        if self._open():
            try:
                handed = self._lane_of_this_worker().serve(client)
            except OSError as error:
                self.log.debug("Closing connection. %s", error)
                handed = None
        if handed is None:
            close(client)
        else:
            super().handle(listener, handed, addr)

    def _open(self) -> bool:
        cfg = self.cfg
        return not (cfg.is_ssl or cfg.accesslog or cfg.statsd_host or cfg.proxy_protocol != "off" or not cfg.keepalive)

    def _lane_of_this_worker(self) -> FastLane:
        if self._lane is None:
            self._lane = FastLane(self, self.wsgi.extensions["ratelimiter"].check_handler)
        return self._lane
