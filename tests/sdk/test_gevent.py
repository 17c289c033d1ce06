"""In a process that gevent has patched, a call that waits for the service holds up nobody else."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.support.node import ROOT, Node

SCRIPT = """
from gevent import monkey
monkey.patch_all(select=False)  # waiting by the system's poll would hold up all
import socket, sys
import gevent
from ratelimiter_client import RateLimiter

hung = socket.create_server(("127.0.0.1", 0))
url, client_id = sys.argv[1:]
client = RateLimiter(url, timeout=10)
slow = RateLimiter("http://127.0.0.1:%d" % hung.getsockname()[1], timeout=1)
ended = []
waiting = [gevent.spawn(lambda: ended.append(slow.check("a"))) for _ in range(3)]
gevent.sleep(0)
checks = [gevent.spawn(client.check, client_id) for _ in range(200)]
gevent.joinall(checks)
assert not ended, "the checks waited for those that hang"
decisions = [check.value for check in checks]
assert not any(decision.error for decision in decisions), decisions
print(sum(decision.allowed for decision in decisions), len(client._service.process.connections._idle))
gevent.joinall(waiting)
assert all(decision.error and decision.allowed for decision in ended), ended
killed = gevent.spawn(slow.check, "a")
gevent.sleep(0)
killed.kill()
assert client.check(client_id).error is None
"""

SLOW_TLS = """
from gevent import monkey
monkey.patch_all()
import socket
import gevent
from ratelimiter_client import RateLimiter

listener = socket.create_server(("127.0.0.1", 0))
def serve():
    connection, _ = listener.accept()
    connection.sendall(bytes((22, 3, 3, 32, 0)))  # of 8,192 bytes of a handshake, which take a quarter of an hour
    while True:
        connection.sendall(b"x")
        gevent.sleep(0.1)
gevent.spawn(serve)
print(RateLimiter("https://127.0.0.1:%d" % listener.getsockname()[1], timeout=0.5).check("a").error)
"""


def printed(script: str, *arguments: str) -> str:
    """Fails the test where the script fails."""
    completed = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT / "sdk/src")},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert completed.returncode == 0, completed.stderr
    return completed.stdout


def test_greenlets_share_a_client(node: Node) -> None:
    node.put_rule(client_id="gevent-of-the-sdk", rate=100, window=3600, algorithm="fixed_window")
    assert printed(SCRIPT, node.url, "gevent-of-the-sdk").split() == ["100", "16"]


def test_a_byte_at_a_time_holds_nobody_longer_over_tls() -> None:
    assert printed(SLOW_TLS).startswith("TimeoutError: ")
