"""A tenant makes rules whose checks are the dearest for Redis, exhausts them, and asks on (row 3)."""

from __future__ import annotations

from typing import Any

import pytest

from tests.attacks.conftest import MakeKey, openings
from tests.support.flood import Batch, Flood
from tests.support.matrix import ATTACKS, Figures
from tests.support.neighbour import Neighbour
from tests.support.node import Node

FULL = 100_000  # entries of a log: as many as a sliding window may have
WINDOW = 3600
COUNTED = {"rate": 1_000_000_000, "window": WINDOW, "algorithm": "fixed_window"}
SECONDS = 10 if ATTACKS.whole else 2
LOGS = [1, 2, 4, 8] if ATTACKS.whole else [1]


def fill(node: Node, key: str, client_id: str) -> int:
    """Charge one unit at a time, so that every one is an entry of the logs. The units admitted."""
    batch = {"checks": [{"client_id": client_id}] * 1000}
    admitted = 0
    for _ in range(FULL // 1000):
        answer = node.request("POST", "/v1/check/batch", key=key, json=batch)
        admitted += answer.content.count(b'"allowed":true,"remaining"')
        assert answer.content.count(b'"degraded":true') == 0, f"degraded after {admitted} of {FULL} units"
    return admitted


@pytest.mark.parametrize("logs", LOGS, ids=lambda logs: f"{logs} logs")
@pytest.mark.attack(
    3,
    f"sliding windows of {FULL:,} units, full, in one rule: denied costs of 50,000 on 8 connections, batches of 1,000",
)
def test_the_dearest_denials_open_no_breaker(attacked: Node, make_key: MakeKey, measured: Figures, logs: int) -> None:
    """Nothing beyond the limit is admitted, Redis decides every check of every tenant, and the breaker stays closed."""
    key, other, client_id = make_key("dear", "check", "rules:write"), make_key("other", "check"), f"full {logs}"
    limits = [{"rate": FULL, "window": WINDOW + n, "algorithm": "sliding_window"} for n in range(logs)]
    answer = attacked.request("POST", "/v1/admin/rules", key=key, json={"client_id": client_id, "limits": limits})
    assert answer.status_code == 201, answer.text
    attacked.await_rules()
    opened = openings(attacked)
    measured["filled with"] = fill(attacked, key, client_id)
    flood = Flood(attacked.port, denied(client_id), width=8, seconds=SECONDS, key=key)
    with Neighbour(attacked.port, {"client_id": "honest", "cost": 0}, key=other) as neighbour:
        calm = neighbour.turn(1)
        with flood:
            pass
    waits, tally = neighbour.turn(), flood.tally
    measured["checks"], measured["admitted beyond the limit"] = tally.asked, tally.units
    measured["degraded"], measured["of the other tenant"] = tally.degraded, waits.degraded
    measured["breaker opened"] = openings(attacked) - opened
    measured["the other's p99, ms: calm"], measured["attacked"] = calm.ms(99), waits.ms(99)
    assert measured["filled with"] == FULL
    assert tally.statuses.keys() == {"200"}
    assert (tally.units, tally.degraded, waits.degraded, waits.failed) == (0, 0, 0, 0)
    assert openings(attacked) == opened


def denied(client_id: str) -> list[Batch]:
    """Each denial must find how long half of the log takes to leave. The second batch has costs that all differ."""
    same: list[dict[str, Any]] = [{"client_id": client_id, "cost": FULL // 2}] * 1000
    return [same, [{"client_id": client_id, "cost": FULL // 2 + number} for number in range(1000)]]
