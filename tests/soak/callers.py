"""Honest callers whose every unit is accounted for: what was surely charged, and what may have been."""

from __future__ import annotations

import http.client
import json
import random
import threading
from collections import Counter
from typing import Any

from tests.support.threads import CallerThreads

WINDOW = 1_000_000  # seconds: no unit comes back meanwhile
ALGORITHMS = ("token_bucket", "fixed_window", "sliding_window", "sliding_window_counter", "gcra")
LIMIT = 2_000
MOST_COST = 5
PAUSE_SECONDS = 0.02  # of each caller after each request: with 8 of them about half of what two processors can do
ANSWER_SECONDS = 5


class Ledger:
    """By client: units that were admitted (`sure`), and units whose request got no decision (`perhaps`)."""

    def __init__(self, clients: list[str]) -> None:
        self.clients = clients
        self.sure: Counter[str] = Counter()
        self.perhaps: Counter[str] = Counter()
        self.decided = self.undecided = 0
        self.wrong: list[str] = []
        self._lock = threading.Lock()

    def take(self, check: dict[str, Any], decision: dict[str, Any] | None) -> None:
        """`decision` None, or a problem: nobody knows whether it was charged."""
        with self._lock:
            if decision is None or "allowed" not in decision:
                self.undecided += 1
                self.perhaps[check["client_id"]] += check["cost"]
                return
            self.decided += 1
            if decision["degraded"]:
                self.wrong.append(f"degraded under fail_mode closed: {decision}")
            if decision["allowed"]:
                self.sure[check["client_id"]] += check["cost"]

    def judge(self, client: str, limit: int, remaining: int) -> None:
        """Compare with what the counter says in the end."""
        charged, sure, perhaps = limit - remaining, self.sure[client], self.perhaps[client]
        if sure > limit or not sure <= charged <= sure + perhaps:
            self.wrong.append(f"{client}: {charged} charged of {limit}, {sure} admitted, {perhaps} in doubt")


class Callers(CallerThreads):
    """`width` callers ask about the ledger's clients at random, singly and in batches, from entry to exit."""

    def __init__(self, port: int, ledger: Ledger, *, width: int, seed: int) -> None:
        self._port, self._ledger = port, ledger
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(random.Random(seed + n),)) for n in range(width)]

    def _ask(self, dice: random.Random) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=ANSWER_SECONDS)
        while not self._stop.wait(PAUSE_SECONDS):
            together = dice.choice((1, 1, 1, 1, 1, 1, 20))
            checks = [
                {"client_id": dice.choice(self._ledger.clients), "cost": dice.randint(1, MOST_COST)}
                for _ in range(together)
            ]
            for check, decision in zip(checks, self._decisions(connection, checks), strict=True):
                self._ledger.take(check, decision)
        connection.close()

    def _decisions(
        self, connection: http.client.HTTPConnection, checks: list[dict[str, Any]]
    ) -> list[dict[str, Any] | None]:
        single = len(checks) == 1
        path, body = ("/v1/check", checks[0]) if single else ("/v1/check/batch", {"checks": checks})
        try:
            connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
            response = connection.getresponse()
            answer = json.loads(response.read() or b"{}") if response.status == 200 else {}
        except (OSError, http.client.HTTPException, ValueError):
            connection.close()
            answer = {}
        if single:
            return [answer or None]
        results: list[dict[str, Any] | None] = answer.get("results") or [None] * len(checks)
        return results
