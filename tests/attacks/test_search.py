"""Random attacks: episodes of honest and hostile callers at the same time, from seeds (row 19).

`make attack-search MINUTES=60` looks for more, from where the last search ended. What it finds, and finds again, it
keeps in corpus/, which is done again here with every `make test`.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from devstack import Valkey
from tests.attacks.actions import Action, Episode, episode
from tests.attacks.trial import sizes, tried
from tests.support.matrix import ATTACKS, Figures
from tests.support.node import ROOT, Node

CORPUS = Path(__file__).parent / "corpus"
STATE = ROOT / "instance" / "attack-search.json"  # the next seed
MINUTES = float(os.environ.get("ATTACK_MINUTES", "0"))
SAMPLE = 60 if ATTACKS.whole else 3
FIRST_SEED = 1_000_000  # of searches; the sample's seeds are 0 and on
TRIES = 3  # whatever is found must be found each time: a machine may stand still once
GROWN_MIB, GROWN_FILES, GROWN_SERIES = 64, 30, 1000


def confirmed(node: Node, redis: Valkey, sought: Episode) -> dict[str, str]:
    """By kind, what the episode leads to every time."""
    found = dict(tried(node, redis, sought))
    for _ in range(TRIES - 1):
        if found:
            again = dict(tried(node, redis, sought))
            found = {kind: what for kind, what in found.items() if kind in again}
    return found


def shrunk(node: Node, redis: Valkey, sought: Episode, kind: str) -> Episode:
    """The episode with fewer callers and actions, as long as it still leads to that kind every time."""

    def still(callers: list[list[Action]]) -> bool:
        return kind in confirmed(node, redis, sought | {"callers": callers})

    callers = sought["callers"]
    for caller in callers:
        if still([caller]):
            callers = [caller]
            break
    size = max(map(len, callers)) // 2
    while size:
        start = 0
        while start < max(map(len, callers)):
            fewer = [caller[:start] + caller[start + size :] for caller in callers]
            if still(fewer):
                callers = fewer
            else:
                start += size
        size //= 2
    return sought | {"callers": [caller for caller in callers if caller]}


def grown(before: dict[str, int], after: dict[str, int]) -> dict[str, str]:
    most = {"MiB": GROWN_MIB, "files": GROWN_FILES, "series": GROWN_SERIES}
    return {
        name: f"{name}: {before[name]} before, {after[name]} after"
        for name in most
        if after[name] - before[name] > most[name]
    }


@pytest.mark.attack(
    19, f"{SAMPLE} random episodes, each 300 actions of 12 callers: checks, nonsense, edits, broken requests"
)
def test_random_attacks_find_nothing(attacked: Node, redis_server: Valkey, measured: Figures) -> None:
    """No honest check degrades, waits a second or is counted wrong; no 5xx, no worker dies, nothing grows for ever."""
    confirmed(attacked, redis_server, episode(0))  # what is made once
    before = sizes(attacked)
    found = {seed: confirmed(attacked, redis_server, episode(seed)) for seed in range(1, SAMPLE)}
    after = sizes(attacked)
    measured["episodes"], measured["findings"] = SAMPLE, sum(map(len, found.values()))
    measured |= {f"{name} before, after": f"{before[name]:,}, {after[name]:,}" for name in before}
    assert {seed: what for seed, what in found.items() if what} == {}
    assert grown(before, after) == {}


@pytest.mark.parametrize("kept", sorted(CORPUS.glob("*.json")), ids=lambda path: path.stem)
def test_what_a_search_found_once_is_mended(attacked: Node, redis_server: Valkey, kept: Path) -> None:
    """The kind that it was kept for, and any other."""
    assert confirmed(attacked, redis_server, json.loads(kept.read_text())["episode"]) == {}


@pytest.mark.skipif(not MINUTES, reason="make attack-search MINUTES=60")
def test_search(attacked: Node, redis_server: Valkey) -> None:
    """Goes on where the last search ended, and keeps what it finds."""
    seed = json.loads(STATE.read_text())["next_seed"] if STATE.exists() else FIRST_SEED
    confirmed(attacked, redis_server, episode(0))  # what is made once
    end, before, wrong = time.monotonic() + 60 * MINUTES, sizes(attacked), []
    while time.monotonic() < end:
        found, after = confirmed(attacked, redis_server, sought := episode(seed)), sizes(attacked)
        larger = grown(before, after)
        left = (end - time.monotonic()) / 60
        print(f"seed {seed}, {left:.1f} min left, {after}, found {found | larger or 'nothing'}", flush=True)
        for kind, what in found.items():
            CORPUS.mkdir(exist_ok=True)
            path = CORPUS / f"{kind}-{seed}.json"
            kept = {"kind": kind, "found": what, "episode": shrunk(attacked, redis_server, sought, kind)}
            path.write_text(json.dumps(kept) + "\n")
            wrong.append(f"{path}: {what}")
        if larger:
            wrong.append(f"after seed {seed}: {larger}")
            before = after
        seed += 1
        STATE.parent.mkdir(exist_ok=True)
        STATE.write_text(json.dumps({"next_seed": seed}))
    assert wrong == []
