"""A tenant makes rules whose checks are the dearest for Redis, exhausts them, and asks on (row 3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from devstack import Valkey
from tests.attacks.conftest import MakeKey, openings
from tests.support.flood import Batch, Flood, Tally
from tests.support.matrix import ATTACKS, Figures
from tests.support.neighbour import Neighbour
from tests.support.node import Node
from tests.support.stalls import undisturbed

FULL = 100_000  # entries of a log: as many as a sliding window may have
WINDOW = 3600
SECONDS = 10 if ATTACKS.whole else 2
LOGS = [1, 2, 4, 8] if ATTACKS.whole else [1]


def fill(node: Node, key: str, client_id: str) -> None:
    """Charge one unit at a time, so that every one is an entry of the logs, until a unit is denied."""
    batch = {"checks": [{"client_id": client_id}] * 1000}
    for _ in range(2 * FULL // 1000):  # what degrades on the way is not charged
        results = node.request("POST", "/v1/check/batch", key=key, json=batch).json()["results"]
        if not all(result["allowed"] for result in results):
            return
    raise AssertionError(f"{2 * FULL} units did not fill the logs")


@pytest.mark.parametrize("logs", LOGS, ids=lambda logs: f"{logs} logs")
@pytest.mark.attack(
    3,
    f"sliding windows of {FULL:,} units, full, in one rule: denied costs of 50,000 on 8 connections, batches of 1,000",
)
def test_the_dearest_denials_open_no_breaker(
    attacked: Node, redis_server: Valkey, make_key: MakeKey, measured: Figures, logs: int
) -> None:
    """Nothing beyond the limit is admitted, Redis decides every check of every tenant, and the breaker stays closed."""
    key, other, client_id = make_key("dear", "check", "rules:write"), make_key("other", "check"), f"full {logs}"
    limits = [{"rate": FULL, "window": WINDOW + n, "algorithm": "sliding_window"} for n in range(logs)]
    attacked.put_rule(key=key, client_id=client_id, limits=limits)
    fill(attacked, key, client_id)
    undisturbed(redis_server.pid, lambda _: asked_on(attacked, client_id, key, other, measured)).judge(measured)


@dataclass(frozen=True)
class Outcome:
    """What was admitted, to how many Redis gave no answer (of both tenants), how often the breaker opened."""

    tally: Tally
    degraded: int
    opened: int

    def judge(self, measured: Figures) -> None:
        measured["checks"], measured["admitted beyond the limit"] = self.tally.asked, self.tally.units
        measured["degraded"], measured["breaker opened"] = self.degraded, self.opened
        assert self.tally.statuses.keys() == {"200"}
        assert (self.tally.units, self.degraded, self.opened) == (0, 0, 0)


def asked_on(node: Node, client_id: str, key: str, other: str, measured: Figures) -> Outcome:
    opened = openings(node)
    with Neighbour(node.port, {"client_id": "honest", "cost": 0}, key=other) as neighbour:
        calm = neighbour.turn(1)
        with Flood(node.port, denied(client_id), width=8, seconds=SECONDS, key=key) as flood:
            pass
    waits = neighbour.turn()
    measured["the other's p99, ms: calm"], measured["attacked"] = calm.ms(99), waits.ms(99)
    assert waits.failed == 0
    return Outcome(flood.tally, flood.tally.degraded + waits.degraded, openings(node) - opened)


def denied(client_id: str) -> list[Batch]:
    """Each denial must find how long half of the log takes to leave. The second batch has costs that all differ."""
    same: list[dict[str, Any]] = [{"client_id": client_id, "cost": FULL // 2}] * 1000
    return [same, [{"client_id": client_id, "cost": FULL // 2 + number} for number in range(1000)]]
