"""Checks one after the other while something else happens, and what came of them."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from tests.support.faults import ALL
from tests.support.threads import CallerThreads

# Between the checks of a caller: with `make test` other tests need the processors too.
REST_SECONDS = 0 if ALL else 0.02
PAUSE_SECONDS = 0.01  # after an error, so that a node that is away is not asked a thousand times


class Listening(Protocol):
    """A node, or what stands in front of some."""

    port: int


@dataclass(frozen=True, slots=True)
class Answer:
    """`began` is monotonic seconds; `seconds` is how long it took, `caller` who asked (0…)."""

    caller: int
    status: int
    headers: dict[str, str]
    body: bytes
    began: float
    seconds: float

    def json(self) -> dict[str, Any]:
        decision: dict[str, Any] = json.loads(self.body)
        return decision


class Load(CallerThreads):
    """`width` callers per node, each on a connection of its own, ask again and again, from entry to exit.

    They ask `check`, or what it returns for the number of the caller. Nothing is asserted here.
    """

    def __init__(
        self, nodes: Sequence[Listening], check: dict[str, Any] | Callable[[int], dict[str, Any]], *, width: int = 1
    ) -> None:
        self.answers: list[Answer] = []
        self.errors: list[Exception] = []
        self._ask = check if callable(check) else lambda _: check
        callers = enumerate(node for node in nodes for _ in range(width))
        self._threads = [threading.Thread(target=self._send, args=caller) for caller in callers]
        self._stop = threading.Event()

    @property
    def statuses(self) -> set[int]:
        return {answer.status for answer in self.answers}

    def decisions(self) -> list[dict[str, Any]]:
        """What was answered with 200."""
        return [answer.json() for answer in self.answers if answer.status == 200]

    def _send(self, caller: int, node: Listening) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", node.port, timeout=30)
        while not self._stop.is_set():
            try:
                self.answers.append(_asked(connection, caller, json.dumps(self._ask(caller)).encode()))
                if REST_SECONDS:
                    self._stop.wait(REST_SECONDS)
            except (OSError, http.client.HTTPException) as error:
                self.errors.append(error)
                connection.close()
                self._stop.wait(PAUSE_SECONDS)
        connection.close()


def _asked(connection: http.client.HTTPConnection, caller: int, body: bytes) -> Answer:
    began = time.monotonic()
    connection.request("POST", "/v1/check", body, {"Content-Type": "application/json"})
    response = connection.getresponse()
    content = response.read()
    headers = dict(response.getheaders())
    return Answer(caller, response.status, headers, content, began, time.monotonic() - began)


def percentile(values: Iterable[float], percent: float) -> float:
    """The least value that so many percent do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]
