"""An application that speaks something else than HTTP once it was asked to, as with WebSocket."""

from __future__ import annotations

import base64
import hashlib
import socketserver
import threading
from typing import Self

GREETING = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"
SWITCHED = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %b\r\n\r\n"
)
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # of RFC 6455: proxies compare what is made of it


class Upgrading:
    """On a free port, from entry to exit: repeats every line once the protocol was switched."""

    def __enter__(self) -> Self:
        self._server = _Server(("127.0.0.1", 0), _Connection)
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    block_on_close = False


class _Connection(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        head = {}
        self.rfile.readline()
        while line := self.rfile.readline().strip():
            name, _, value = line.partition(b":")
            head[name.lower()] = value.strip()
        if head.get(b"upgrade") != b"websocket" or head.get(b"connection", b"").lower() != b"upgrade":
            self.wfile.write(GREETING)
            return
        accepted = hashlib.sha1(head[b"sec-websocket-key"] + GUID, usedforsecurity=False).digest()
        self.wfile.write(SWITCHED % base64.b64encode(accepted))
        for line in self.rfile:
            self.wfile.write(line)
