"""Whether the machine stood still, or gave Redis no processor: on each a process that goes before all others sees it.

Then nobody is to blame that Redis was silent, and what was measured meanwhile says nothing.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, Self, TypeVar

from tests.support.node import ROOT
from tests.support.starved import goes_first

TRIES = 5
STALL_SECONDS = 0.01  # a fifth of what Redis has to answer
NAP_SECONDS = 0.001


class Outcome(Protocol):
    @property
    def degraded(self) -> int: ...


T = TypeVar("T", bound=Outcome)


class Stalls:
    """`longest`, in seconds, from entry to exit: by how much a nap was overslept on any of the processors, or how long
    Redis was ready and did not run (where the system tells)."""

    def __init__(self, redis: int) -> None:
        self._redis = str(redis)
        self.longest = 0.0

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "tests.support.stalls", self._redis]
        self._watches = [
            subprocess.Popen([*command, str(number)], cwd=ROOT, stdout=subprocess.PIPE, start_new_session=True)
            for number in range(os.cpu_count() or 1)
        ]
        for watch in self._watches:
            goes_first(watch.pid)
        return self

    def __exit__(self, *_: object) -> None:
        for watch in self._watches:
            watch.send_signal(signal.SIGINT)
        self.longest = max(float(watch.communicate(timeout=30)[0] or 0) for watch in self._watches)


def undisturbed(redis: int, attack: Callable[[int], T]) -> T:
    """What came of the attack, which gets the number of the try. `redis` is a pid.

    It is tried again where checks degraded while the machine stood still, TRIES times at most.
    """
    for number in range(TRIES):
        with Stalls(redis) as stalls:
            outcome = attack(number)
        if not outcome.degraded or stalls.longest < STALL_SECONDS:
            break
        print(
            f"try {number}: {outcome.degraded} degraded, but the machine stood still for {stalls.longest * 1e3:.0f} ms"
        )
    return outcome


def _longest(schedule: Path) -> float:
    longest, delayed = 0.0, _delayed(schedule)
    try:
        while True:
            began = time.monotonic()
            time.sleep(NAP_SECONDS)
            slept, before, delayed = time.monotonic() - began, delayed, _delayed(schedule)
            longest = max(longest, slept - NAP_SECONDS, delayed - before)
    except KeyboardInterrupt:
        return longest


def _delayed(schedule: Path) -> float:
    """Seconds for which the process was ready and did not run, so far; added up whenever it runs again."""
    return int(schedule.read_text().split()[1]) / 1e9 if schedule.exists() else 0.0


if __name__ == "__main__":
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {int(sys.argv[2])})
    sys.stdout.write(str(_longest(Path(f"/proc/{sys.argv[1]}/schedstat"))))
