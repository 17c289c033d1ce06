"""The stop of a node: `/readyz` fails while the node still answers, then requests in flight end, then it exits."""

from __future__ import annotations

import queue
import signal
import time
from typing import Any

from app.observability.shared_memory import shared_memory

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)


class Drain:
    """One flag of the node, in memory that master and workers share: create it before the fork."""

    def __init__(self) -> None:
        self._shared = shared_memory(1)

    @property
    def draining(self) -> bool:
        return self._shared[0] != 0

    def begin(self) -> None:
        self._shared[0] = 1


def stop_gently(arbiter: Any, drain: Drain, drain_seconds: float) -> None:
    """Set the signals of gunicorn's master: TERM drains, INT skips the wait, a second signal stops at once."""

    def stop(wait_seconds: float) -> None:
        drain.begin()
        if not _waited(arbiter, wait_seconds):
            arbiter.stop(False)
        for number in STOP_SIGNALS:
            signal.signal(number, lambda *_: arbiter.kill_workers(signal.SIGKILL))
        raise StopIteration  # gunicorn's own graceful stop follows

    arbiter.handle_term = lambda: stop(drain_seconds)
    arbiter.handle_int = lambda: stop(0)


def _waited(arbiter: Any, seconds: float) -> bool:
    """Wait while the workers go on serving. Returns False if a second signal asks to stop at once."""
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        try:
            number = arbiter.SIG_QUEUE.get(timeout=left)
        except queue.Empty:
            return True
        if number in STOP_SIGNALS:
            return False
        if number == signal.SIGCHLD:
            arbiter.reap_workers()
    return True
