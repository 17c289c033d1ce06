"""A process of an application that decides by leases, and how a test talks to it.

It is told by JSON lines to check so many times, in so many threads, or to move its clock, and answers with how many
checks were admitted and how many the service was asked about and did not decide. At the end of its input it exits.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any, Self

if sys.argv[-1] == "gevent":  # before what it patches is imported
    from gevent import monkey

    monkey.patch_all()

import threading
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
PATIENT_SECONDS = 10


class Holder:
    """From entry to exit; `options` are those of the limiter and its client."""

    def __init__(self, url: str, client_id: str, *, gevent: bool = False, **options: Any) -> None:
        settings = {"url": url, "client_id": client_id} | options
        self._command = [sys.executable, __file__, json.dumps(settings), "gevent" if gevent else "threads"]

    def __enter__(self) -> Self:
        environment = {"PATH": os.environ["PATH"], "PYTHONPATH": f"{ROOT}/sdk/src"}
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(self._command, env=environment, stdin=pipe, stdout=pipe, text=True)
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def begin(self, **told: float) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(told) + "\n")
        self._process.stdin.flush()

    def answer(self) -> dict[str, int]:
        assert self._process.stdout is not None
        answered: dict[str, int] = json.loads(self._process.stdout.readline())
        return answered

    def check(self, checks: int, threads: int = 1) -> dict[str, int]:
        self.begin(checks=checks, threads=threads)
        return self.answer()

    def exit(self) -> None:
        """As an application does."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        assert self._process.wait(PATIENT_SECONDS) == 0

    def kill(self) -> None:
        """By SIGKILL."""
        with self._process:  # closes its pipes
            self._process.kill()


def main() -> None:
    from ratelimiter_client import LeasedLimiter, RateLimiter

    options = json.loads(sys.argv[1])
    client_id, moved = options["client_id"], 0.0
    client = RateLimiter(options["url"], timeout=options.get("timeout", PATIENT_SECONDS), fail_mode="closed")
    limiter = LeasedLimiter(client, options["size"], options["ttl"], clock=lambda: time.monotonic() + moved)
    for line in sys.stdin:
        told = json.loads(line)
        moved += told.get("seconds", 0)
        counts = {"admitted": 0, "undecided": 0}
        lock = threading.Lock()

        def run(checks: int, counts: dict[str, int] = counts, lock: threading.Lock = lock) -> None:
            decisions = [limiter.check(client_id) for _ in range(checks)]
            with lock:
                counts["admitted"] += sum(decision.allowed for decision in decisions)
                counts["undecided"] += sum(decision.error is not None for decision in decisions)

        threads = [threading.Thread(target=run, args=(told["checks"],)) for _ in range(told.get("threads", 0))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        sys.stdout.write(json.dumps(counts) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
