"""A breaker for each primary of a cluster: one that is dead is not waited for, and the others decide on."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

from app.limiter.breaker.breaker import Breaker, BreakerStatus, status_of
from app.limiter.breaker.shared_state import CLOSED, STATE, Circuit, Circuits


class BreakerFactory(Protocol):
    def __call__(self, *, circuit: Circuit, name: str) -> Breaker: ...


class PrimaryBreakers:
    """Made before the fork: breakers of one name open as one on the whole node. `clock` is monotonic seconds.

    To a limiter and to operators it is one breaker, which lets everything pass: each part of a trip meets its own. What
    it shows is the node's, also of primaries that another worker alone has met so far.
    """

    def __init__(self, make: BreakerFactory, clock: Callable[[], float]) -> None:
        self._make = make
        self._clock = clock
        self._circuits = Circuits()
        self._breakers: dict[str, Breaker] = {}

    def of(self, name: str) -> Breaker:
        """This worker's breaker of that name."""
        breaker = self._breakers.get(name)
        if breaker is None:
            circuit = self._circuits.of(name, self._clock())
            breaker = self._breakers[name] = self._make(circuit=circuit, name=name)
        return breaker

    def keep(self, names: Iterable[str]) -> None:
        """Forget the others, on the whole node."""
        self._breakers = {name: self.of(name) for name in names}
        self._circuits.keep(self._breakers, self._clock())

    @property
    def changes(self) -> int:
        """Another number whenever a worker of the node has announced a change."""
        return self._circuits.changes

    def announce(self) -> None:
        """Tell the other workers that the primaries are others than before."""
        self._circuits.announce()

    def admit(self) -> int:
        return CLOSED

    def settle(self, mark: int, error: Exception | None = None) -> None:
        """Nothing: the primaries' own breakers know."""

    def give_back(self, mark: int) -> None:
        """Likewise."""

    @property
    def probe_due(self) -> bool:
        """Whether the next call may be the probe of one of them."""
        return any(breaker.probe_due for breaker in self._breakers.values())

    @property
    def state_number(self) -> int:
        """The worst of them: 0 closed, 1 half open, 2 open."""
        return max((circuit.mark & STATE for circuit in self._circuits.in_use()), default=CLOSED)

    def status(self) -> BreakerStatus:
        """Of the worst one. With several alike, of that with the most failures, then the longest wait."""
        now = self._clock()
        found = [(circuit.mark & STATE, status_of(circuit, now)) for circuit in self._circuits.in_use()]
        worst = max(found, key=_badness, default=(CLOSED, BreakerStatus("closed", 0, 0.0)))
        return worst[1]


AnyBreaker = Breaker | PrimaryBreakers  # what a limiter asks the store through


def _badness(found: tuple[int, BreakerStatus]) -> tuple[int, int, float]:
    state_number, status = found
    return state_number, status.failure_count, status.time_until_retry_seconds
