"""In a process that gevent has patched, a call that waits for the service holds up nobody else."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.support.node import ROOT, Node

SCRIPT = """
from gevent import monkey
monkey.patch_all()
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


def test_greenlets_share_a_client(node: Node) -> None:
    node.put_rule(client_id="gevent-of-the-sdk", rate=100, window=3600, algorithm="fixed_window")
    completed = subprocess.run(
        [sys.executable, "-c", SCRIPT, node.url, "gevent-of-the-sdk"],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT / "sdk/src")},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert completed.returncode == 0, completed.stderr
    assert completed.stdout.split() == ["100", "16"]
