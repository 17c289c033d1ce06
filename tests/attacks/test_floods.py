"""A client over its limit asks in batches of 1,000, on many connections that wait for nobody (rows 1 and 2)."""

from __future__ import annotations

import random
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import pytest

from app.rules.rule import ALGORITHMS
from devstack import Valkey
from tests.attacks.conftest import MakeKey, openings
from tests.support.flood import Batch, Flood, Tally
from tests.support.matrix import ATTACKS, Figures
from tests.support.neighbour import Neighbour
from tests.support.node import Node
from tests.support.stalls import undisturbed
from tests.support.starved import starved

LIMIT = 1000
WINDOW = 9_000_000  # seconds: as long as a bucket of that limit may have, so that no unit comes back meanwhile
COUNTED = {"rate": 1_000_000, "window": 3600, "algorithm": "fixed_window"}
SECONDS, CALM_SECONDS = (10, 3) if ATTACKS.whole else (1, 0.5)
KINDS = [*ALGORITHMS, "8 limits"] if ATTACKS.whole else ["token_bucket", "sliding_window", "8 limits"]
NICENESS = {"busy": 10, "starved": 19}  # of the workers, beside as many busy loops as there are processors
CASES = [(32, "quiet"), (8, "busy")]
if ATTACKS.whole:
    CASES = [*((width, machine) for machine in ("quiet", "busy") for width in (8, 32, 100)), (8, "starved")]
SEED = 16


def batches_of(client_id: str, costs: range) -> list[Batch]:
    """Costs at random, and a last unit for whatever is left. A denial of cost 1 alone is answered from memory."""
    dice = random.Random(SEED)
    chosen = [[dice.choice(costs) for _ in range(999)] + [1] for _ in range(20)]
    return [[{"client_id": client_id, "cost": cost} for cost in batch] for batch in chosen]


@dataclass(frozen=True)
class Outcome:
    """Of a flood: what its answers said, what the counter has left, how often the breaker opened meanwhile."""

    tally: Tally
    left: int
    opened: int
    other_degraded: int = 0

    @property
    def degraded(self) -> int:
        return self.tally.degraded + self.other_degraded

    def judge(self, measured: Figures) -> None:
        """Admitted is exactly the limit, all of it by Redis, and the breaker kept still."""
        tally = self.tally
        measured["checks"], measured["admitted units"], measured["limit"] = tally.asked, tally.units, LIMIT
        measured["degraded"], measured["breaker opened"] = self.degraded, self.opened
        measured["slowest batch, ms"] = round(tally.longest * 1e3)
        assert tally.asked > 2 * LIMIT
        assert tally.statuses.keys() == {"200"}
        assert (tally.units, self.left) == (LIMIT, 0)
        assert (self.degraded, tally.cut, self.opened) == (0, 0, 0)


def flooded(node: Node, client_id: str, kind: str, costs: range, width: int) -> Outcome:
    """A client of its own asks, whose rule is of that kind."""
    node.put_rule(**rule_of(kind, client_id))
    opened = openings(node)
    with Flood(node.port, batches_of(client_id, costs), width=width, seconds=SECONDS) as flood:
        pass
    opened = openings(node) - opened
    assert node.eventually(
        lambda: not node.check(client_id, cost=0)["degraded"]
    )  # else it shows nothing of the counter
    return Outcome(flood.tally, node.check(client_id, cost=0)["remaining"], opened)


def rule_of(kind: str, client_id: str) -> dict[str, Any]:
    """A rule of one algorithm, or of 8 limits of all algorithms."""
    if kind != "8 limits":
        return {"client_id": client_id, "rate": LIMIT, "window": WINDOW, "algorithm": kind}
    kinds = [ALGORITHMS[number % len(ALGORITHMS)] for number in range(8)]
    limits = [{"rate": LIMIT, "window": WINDOW - number, "algorithm": kind} for number, kind in enumerate(kinds)]
    return {"client_id": client_id, "limits": limits}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.attack(2, "32 such connections, costs of all sizes, by algorithm, while another tenant is checked")
def test_no_algorithm_gives_way(
    attacked: Node, redis_server: Valkey, make_key: MakeKey, measured: Figures, kind: str
) -> None:
    """Exactly the limit is admitted. The other tenant's count stays exact, and none of its checks degrades or fails."""
    key = make_key("neighbour", "check", "rules:write")
    attacked.put_rule(key=key, client_id="*", **COUNTED)

    def attack(number: int) -> Outcome:
        check = {"client_id": f"{kind} {number}"}
        with Neighbour(attacked.port, check, key=key) as neighbour:
            calm = neighbour.turn(CALM_SECONDS)
            outcome = flooded(attacked, f"greedy {kind} {number}", kind, range(1, 2 * LIMIT), 32)
        waits = neighbour.turn()
        peek = attacked.request("POST", "/v1/check", key=key, json=check | {"cost": 0}).json()
        measured["the other's p99, ms: calm"], measured["attacked"] = calm.ms(99), waits.ms(99)
        measured["counted wrong"] = peek["limit"] - peek["remaining"] - calm.allowed - waits.allowed
        assert (calm.failed, waits.failed) == (0, 0)
        return replace(outcome, other_degraded=calm.degraded + waits.degraded)

    undisturbed(redis_server.pid, attack).judge(measured)
    assert measured["counted wrong"] == 0


@pytest.mark.parametrize(("width", "machine"), CASES)  # those that leave the workers lazy come last
@pytest.mark.attack(1, "one client over its limit asks batches of 1,000 on so many connections that wait for nobody")
def test_a_flood_of_batches_gains_nothing(
    attacked: Node, redis_server: Valkey, measured: Figures, width: int, machine: str
) -> None:
    """Exactly the limit is admitted, Redis decides every check, and the breaker stays closed; also on a machine that
    is busy with other things and stops the workers at random."""
    niceness = NICENESS.get(machine)

    def attack(number: int) -> Outcome:
        return flooded(attacked, f"greedy {machine} {width} {number}", "fixed_window", range(1, 10), width)

    with starved(attacked.workers, niceness=niceness) if niceness else nullcontext():
        outcome = undisturbed(redis_server.pid, attack)
    outcome.judge(measured)
