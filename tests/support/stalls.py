"""Whether the machine itself stood still: a process that only sleeps, and goes before all others, sees it.

Then nobody is to blame that Redis was silent, and what was measured meanwhile says nothing.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Protocol, Self, TypeVar

from tests.support.starved import goes_first

TRIES = 5
STALL_SECONDS = 0.02  # well under the 50 ms that Redis has
NAP_SECONDS = 0.001


class Outcome(Protocol):
    @property
    def degraded(self) -> int: ...


T = TypeVar("T", bound=Outcome)


class Stalls:
    """`longest`: by how much a nap was overslept at most, in seconds, from entry to exit."""

    longest = 0.0

    def __enter__(self) -> Self:
        self._process = subprocess.Popen([sys.executable, "-m", "tests.support.stalls"], stdout=subprocess.PIPE)
        goes_first(self._process.pid)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.send_signal(signal.SIGINT)
        told, _ = self._process.communicate(timeout=30)
        self.longest = float(told or 0)


def undisturbed(attack: Callable[[int], T]) -> T:
    """What came of the attack, which gets the number of the try.

    It is tried again where checks degraded while the machine stood still, TRIES times at most.
    """
    for number in range(TRIES):
        with Stalls() as stalls:
            outcome = attack(number)
        if not outcome.degraded or stalls.longest < STALL_SECONDS:
            break
        print(
            f"try {number}: {outcome.degraded} degraded, but the machine stood still for {stalls.longest * 1e3:.0f} ms"
        )
    return outcome


def _longest() -> float:
    longest = 0.0
    try:
        while True:
            began = time.monotonic()
            time.sleep(NAP_SECONDS)
            longest = max(longest, time.monotonic() - began - NAP_SECONDS)
    except KeyboardInterrupt:
        return longest


if __name__ == "__main__":
    sys.stdout.write(str(_longest()))
