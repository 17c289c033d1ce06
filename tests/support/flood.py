"""Callers that ask batch after batch, each as fast as it is answered and none waiting for another.

In a process of its own, so that the time of the test's interpreter is not part of what is measured.
"""

from __future__ import annotations

import json
import re
import selectors
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

ROOT = Path(__file__).parents[2]
LENGTH = re.compile(rb"\r\nContent-Length: (\d+)", re.IGNORECASE)
LAST_ANSWER_SECONDS = 60
Batch = Sequence[dict[str, Any]]


@dataclass
class Tally:
    """What came of a flood. `units` is the cost of what was admitted, `degraded` counts decisions.

    `cut` counts connections that the server closed or reset; `longest` is of one answer, in seconds.
    """

    asked: int = 0
    units: int = 0
    degraded: int = 0
    cut: int = 0
    longest: float = 0.0
    statuses: dict[str, int] = field(default_factory=dict)


class Flood:
    """`width` connections that send the batches by turns, each from another one on, from entry until `seconds` later.

    The exit waits for the end; then `tally` is set.
    """

    def __init__(self, port: int, batches: Sequence[Batch], *, width: int, seconds: float, key: str | None = None):
        self._order = {"port": port, "batches": batches, "width": width, "seconds": seconds, "key": key}
        self._seconds = seconds
        self.tally = Tally()

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "tests.support.flood"]
        self._process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(self._order).encode() + b"\n")
        self._process.stdin.flush()
        return self

    def __exit__(self, failed: object, *_: object) -> None:
        if failed is not None:
            self._process.kill()
        try:
            told, _ = self._process.communicate(timeout=self._seconds + 2 * LAST_ANSWER_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            raise
        if failed is None:
            self.tally = Tally(**json.loads(told))


class _Caller:
    """One connection. `requests` are (bytes, costs) pairs; it begins with number `first`."""

    def __init__(self, port: int, requests: Sequence[tuple[bytes, list[int]]], first: int, tally: Tally) -> None:
        self._port, self._requests, self._number, self._tally = port, requests, first, tally
        self.statuses: Counter[str] = Counter()
        self.connection = self._connect()

    def _connect(self) -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", self._port), timeout=LAST_ANSWER_SECONDS)
        connection.setblocking(False)
        return connection

    def ask(self) -> None:
        self._number += 1
        request, self._costs = self._requests[self._number % len(self._requests)]
        self.unsent, self._received, self._whole = memoryview(request), bytearray(), 0
        self._began = time.monotonic()

    def send(self) -> None:
        self.unsent = self.unsent[self.connection.send(self.unsent) :]

    def answered(self) -> bool:
        """Reads what is there; whether the answer is whole by that."""
        if not (chunk := self.connection.recv(1 << 20)):
            raise ConnectionError
        self._received += chunk
        if not self._whole and (end := self._received.find(b"\r\n\r\n") + 4) >= 4:
            found = LENGTH.search(self._received, 0, end)
            assert found, bytes(self._received[:end])
            self._whole = end + int(found[1])
        if not self._whole or len(self._received) < self._whole:
            return False
        self._count(bytes(self._received))
        return True

    def _count(self, answer: bytes) -> None:
        tally = self._tally
        tally.asked += len(self._costs)
        tally.degraded += answer.count(b'"degraded":true')
        tally.longest = max(tally.longest, time.monotonic() - self._began)
        self.statuses[answer[9:12].decode()] += 1
        if b'"allowed":true' in answer:
            results = json.loads(answer.partition(b"\r\n\r\n")[2])["results"]
            paired = zip(self._costs, results, strict=True)
            tally.units += sum(cost for cost, result in paired if result.get("allowed"))

    def reconnect(self) -> None:
        self._tally.cut += 1
        self.connection.close()
        self.connection = self._connect()


def _run(port: int, batches: Sequence[Batch], width: int, seconds: float, key: str | None) -> Tally:
    tally = Tally()
    head = "POST /v1/check/batch HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    head += f"X-API-Key: {key}\r\n" if key else ""
    requests = [_request(head, batch) for batch in batches]
    callers = [_Caller(port, requests, number, tally) for number in range(width)]
    until = time.monotonic() + seconds
    with selectors.DefaultSelector() as selector:
        for caller in callers:
            _ask(selector, caller)
        while selector.get_map() and time.monotonic() < until + LAST_ANSWER_SECONDS:
            for key_, _ in selector.select(1):
                _go_on(selector, key_.data, until)
    tally.statuses = dict(sum((caller.statuses for caller in callers), Counter()))
    return tally


def _request(head: str, batch: Batch) -> tuple[bytes, list[int]]:
    body = json.dumps({"checks": batch}, ensure_ascii=False).encode()
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body, [check.get("cost", 1) for check in batch]


def _ask(selector: selectors.BaseSelector, caller: _Caller) -> None:
    caller.ask()
    selector.register(caller.connection, selectors.EVENT_WRITE, caller)


def _go_on(selector: selectors.BaseSelector, caller: _Caller, until: float) -> None:
    try:
        if caller.unsent:
            caller.send()
            if not caller.unsent:
                selector.modify(caller.connection, selectors.EVENT_READ, caller)
            return
        if not caller.answered():
            return
        selector.unregister(caller.connection)
    except OSError:
        selector.unregister(caller.connection)
        caller.reconnect()
    if time.monotonic() < until:
        _ask(selector, caller)


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asdict(_run(**json.loads(sys.stdin.readline())))))
