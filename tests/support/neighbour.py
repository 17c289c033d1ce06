"""Somebody else's checks while a node is attacked: how long each took, and whether Redis decided it."""

from __future__ import annotations

import http.client
import json
import threading
import time
from dataclasses import dataclass, field
from typing import Any

from tests.support.load import percentile
from tests.support.threads import CallerThreads

PAUSE_SECONDS = 0.01


@dataclass
class Waits:
    """Of the checks between two moments: seconds each, decisions and what failed."""

    seconds: list[float] = field(default_factory=list)
    allowed: int = 0
    degraded: int = 0
    failed: int = 0

    def ms(self, percent: float) -> float:
        """So many percent of the checks took no longer."""
        return round(percentile(self.seconds, percent) * 1e3, 1) if self.seconds else float("nan")


class Neighbour(CallerThreads):
    """`width` callers, each on a connection of its own, ask `check` a hundred times a second, from entry to exit.

    `waits` is replaced by `turn`, so that a calm time and an attack are told apart.
    """

    def __init__(self, port: int, check: dict[str, Any], *, key: str | None = None, width: int = 8) -> None:
        self._port, self._body = port, json.dumps(check).encode()
        self._headers = {"Content-Type": "application/json"} | ({"X-API-Key": key} if key else {})
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(width)]
        self.waits = Waits()

    def turn(self, seconds: float = 0) -> Waits:
        """What was seen since entry or the last turn, after waiting so long. A check under way counts when it ends."""
        self._stop.wait(seconds)
        seen, self.waits = self.waits, Waits()
        return seen

    def _ask(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        while not self._stop.wait(PAUSE_SECONDS):
            began = time.monotonic()
            try:
                connection.request("POST", "/v1/check", self._body, self._headers)
                response = connection.getresponse()
                answer = response.read()
                failed = response.status != 200
            except (OSError, http.client.HTTPException):
                connection.close()
                answer, failed = b"", True
            waits = self.waits
            waits.seconds.append(time.monotonic() - began)
            waits.allowed += b'"allowed":true' in answer
            waits.degraded += b'"degraded":true' in answer
            waits.failed += failed
        connection.close()
