"""One breaker for each primary of a cluster: calls do not wait for a dead primary, and the others decide on."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

from app.limiter.breaker.breaker import Breaker, BreakerStatus, status_of
from app.limiter.breaker.shared_state import CLOSED, STATE, Circuit, Circuits


class BreakerFactory(Protocol):
    def __call__(self, *, circuit: Circuit, name: str) -> Breaker: ...


class PrimaryBreakers:
    """A facade over the breakers of all primaries. Made before the fork: breakers of the same name open node-wide.

    `admit` always passes, because each part of a round trip goes through its own primary's breaker. The status covers
    the whole node, including primaries that only another worker has used so far. `clock` is monotonic seconds.
    """

    def __init__(self, make: BreakerFactory, clock: Callable[[], float]) -> None:
        self._make = make
        self._clock = clock
        self._circuits = Circuits()
        self._breakers: dict[str, Breaker] = {}

    def of(self, name: str) -> Breaker:
        """Return this worker's breaker of that name."""
        breaker = self._breakers.get(name)
        if breaker is None:
            circuit = self._circuits.of(name, self._clock())
            breaker = self._breakers[name] = self._make(circuit=circuit, name=name)
        return breaker

    def keep(self, names: Iterable[str]) -> None:
        """Drop all other breakers, on the whole node."""
        self._breakers = {name: self.of(name) for name in names}
        self._circuits.keep(self._breakers, self._clock())

    @property
    def changes(self) -> int:
        """A number that changes whenever a worker of the node announces a change."""
        return self._circuits.changes

    def announce(self) -> None:
        """Notify the other workers that the set of primaries has changed."""
        self._circuits.announce()

    def admit(self) -> int:
        return CLOSED

    def settle(self, mark: int, error: Exception | None = None) -> None:
        """Do nothing: the primaries' own breakers record results."""

    def give_back(self, mark: int) -> None:
        """Do nothing, as `settle`."""

    @property
    def probe_due(self) -> bool:
        """Whether the next call may be the probe of one of the breakers."""
        return any(breaker.probe_due for breaker in self._breakers.values())

    @property
    def state_number(self) -> int:
        """The worst state of all breakers: 0 closed, 1 half open, 2 open."""
        return max((circuit.mark & STATE for circuit in self._circuits.in_use()), default=CLOSED)

    def status(self) -> BreakerStatus:
        """Return the status of the worst breaker: by state, then most failures, then longest wait."""
        now = self._clock()
        found = [(circuit.mark & STATE, status_of(circuit, now)) for circuit in self._circuits.in_use()]
        worst = max(found, key=_badness, default=(CLOSED, BreakerStatus("closed", 0, 0.0)))
        return worst[1]


AnyBreaker = Breaker | PrimaryBreakers  # the breaker that guards a limiter's store


def _badness(found: tuple[int, BreakerStatus]) -> tuple[int, int, float]:
    state_number, status = found
    return state_number, status.failure_count, status.time_until_retry_seconds
