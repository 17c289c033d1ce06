"""What the tests share: the real service, one that is broken, and a relay between the two."""

import contextlib
import ipaddress
import itertools
import logging
import os
import re
import socket
import threading
from urllib.parse import urlsplit

URL = os.environ["RATELIMITER_URL"]  # of a node that answers checks without a key, by the rules of rules.json
PATIENT = 10  # seconds, for calls that are not about time

logging.getLogger("ratelimiter_client").addHandler(logging.NullHandler())  # what it logs, tests ask for

_RUN = os.urandom(6).hex()
_numbers = itertools.count()


def new_client_id(limit="default"):
    """One whose quota nobody spends but the test: `limit` an hour, without refills in between; 0 is blocked."""
    return f"sdk-{limit}-{_RUN}-{next(_numbers)}"


def new_network():
    """An IPv6 network of 64 bits that is nobody's but the test's; 2 an hour for its `ip:`."""
    return ipaddress.IPv6Network((0xFD00 << 112 | int.from_bytes(os.urandom(6), "big") << 64, 64))


class Server:
    """On a free port of 127.0.0.1, from entry to exit: `serve(connection)` in a thread for each."""

    def __enter__(self):
        self.connections = 0
        self.over = threading.Event()
        self._open = []
        self._listener = socket.socket()
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen(128)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()
        return self

    def __exit__(self, *_):
        self.over.set()
        for known in (self._listener, *self._open):
            with contextlib.suppress(OSError):
                known.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        self._listener.close()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self.connections += 1
                self._open.append(connection)
                thread = threading.Thread(target=self._run, args=(connection,))
                self._threads.append(thread)
                thread.start()

    def _run(self, connection):
        with connection, contextlib.suppress(OSError):
            self.serve(connection)


class Broken(Server):
    """Sends `beginning` to each caller, then `rest` for ever, a piece each `pause` seconds; or closes."""

    def __init__(self, beginning=b"", rest=b"", pause=0.001, closes=False):
        self.beginning, self._rest, self._pause, self._closes = beginning, rest, pause, closes

    def __enter__(self):
        self.heard = []
        return super().__enter__()

    def serve(self, connection):
        while True:
            asked = connection.recv(65536)
            if not asked:
                return
            self.heard.append(asked)
            connection.sendall(self.beginning)
            while self._rest and not self.over.wait(self._pause):
                connection.sendall(self._rest)
            if self._closes:
                return


class Relay(Server):
    """To the real service. The next `cut` answers break off in the middle."""

    def __init__(self, cut=0, tls=None):
        self.cut = cut
        self._tls = tls

    def serve(self, connection):
        service = urlsplit(URL)
        with contextlib.ExitStack() as stack:
            if self._tls:
                connection = stack.enter_context(self._tls.wrap_socket(connection, server_side=True))
            upstream = stack.enter_context(socket.create_connection((service.hostname, service.port)))
            while True:
                asked = connection.recv(65536)
                if not asked:
                    return
                upstream.sendall(asked)
                answer = _whole(upstream)
                if self.cut:
                    self.cut -= 1
                    connection.sendall(answer[: len(answer) // 2])
                    return
                connection.sendall(answer)


def _whole(upstream):
    """An answer, which may come in pieces."""
    answer = b""
    while b"\r\n\r\n" not in answer:
        answer += upstream.recv(65536)
    head, _, body = answer.partition(b"\r\n\r\n")
    length = int(re.search(rb"content-length: *([0-9]+)", head, re.IGNORECASE)[1])
    while len(body) < length:
        body += upstream.recv(65536)
    return head + b"\r\n\r\n" + body


def http(status, body, *headers):
    """The bytes of an answer."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers]
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + body
