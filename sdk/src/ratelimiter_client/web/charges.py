"""One request, one charge: two of its limits that meet the same counter charge it once."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, Callable, Generator, NamedTuple, Tuple

from ratelimiter_client.decision import Decision
from ratelimiter_client.errors import RateLimiterError
from ratelimiter_client.identify import Environ

RECORD = "ratelimiter.charges"  # in the environ
HOLD_SECONDS = 60.0  # an answer that takes longer counts


class Hold:
    """Units that a request was lent, by a lease, until its answer tells whether they count."""

    def __init__(self, deduct_when: Callable[[Any], Any]) -> None:
        self._conditions = [deduct_when]  # any of which makes them count
        self._give_back: Callable[[], Any] | None = None

    def take(self, limiter: Any, ask: Ask) -> Decision | None:
        """The decision of a lease of so many permits; None where a check has to decide: there was none, or not whole.

        Then nothing is held, and what the check charges counts.
        """
        try:
            lease = limiter.lease(ask.client_id, ask.limit_key, ask.cost, HOLD_SECONDS)
            if 0 < lease.granted < ask.cost:
                limiter.return_lease(lease.lease_id, lease.granted)
        except RateLimiterError:
            return None
        if lease.granted < ask.cost:
            return lease.decision if lease.granted == 0 and ask.cost == 1 else None
        self._give_back = lambda: limiter.return_lease(lease.lease_id, lease.granted)
        return lease.decision  # type: ignore[no-any-return]

    def join(self, other: Hold | None) -> None:
        """Another limit meets the counter: they count if they do for either. None: for that one in any case."""
        self._conditions += [lambda _: True] if other is None else other._conditions

    def settle(self, answer: Any) -> None:
        """Give the units back if they do not count. What fails counts."""
        if self._give_back is not None and not any(counts(answer) for counts in self._conditions):
            with suppress(RateLimiterError):
                self._give_back()
        self._give_back = None


class Ask(NamedTuple):
    """A question for the service. `hold`: to be lent rather than charged."""

    client_id: str
    limit_key: str
    cost: int
    hold: Hold | None = None


Place = Tuple[int, str]  # a limiter and a client id


class Charge(NamedTuple):
    """Of one counter."""

    units: int
    hold: Hold | None


Steps = Generator[Ask, Decision, Decision]


class Charges:
    """What one request was asked about and charged. `decisions` in their order; `holds` wait for its answer."""

    def __init__(self) -> None:
        self.decisions: list[Decision] = []
        self.holds: list[Hold] = []
        self._met: dict[tuple[Place, str], Decision] = {}  # by limit key
        self._charged: dict[tuple[Place, int | str], Charge] = {}  # by rule

    @classmethod
    def of(cls, environ: Environ) -> Charges:
        """Those of the request."""
        found: Charges = environ.setdefault(RECORD, cls())
        return found

    def steps(self, limiter: object, ask: Ask) -> Steps:
        """Questions to be asked of the limiter, each to be answered by its decision; the decision on `ask`.

        One rule counts a client once. So of a client that was charged before, a question that charges nothing tells
        which rule decides; where it is the same, what is charged is the difference, if this costs more.
        """
        if ask.cost <= 0:  # nothing to charge, or to be denied by the limiter
            return (yield ask._replace(hold=None))
        place = (id(limiter), ask.client_id)
        met = self._met.get((place, ask.limit_key))
        if met is None and any(known == place for known, _ in self._charged):
            met = yield ask._replace(cost=0, hold=None)
            if met.error is not None:
                return met
        charge = None if met is None else self._charged.get((place, met.rule_id))
        if met is not None and charge is not None:
            if charge.hold is not None:
                charge.hold.join(ask.hold)
            if ask.cost <= charge.units:
                return met
            ask = ask._replace(cost=ask.cost - charge.units)
        decision = yield ask
        if decision.allowed and decision.error is None:
            self._met[place, ask.limit_key] = decision
            self._charged[place, decision.rule_id] = Charge(ask.cost + (charge.units if charge else 0), ask.hold)
            self.holds += [] if ask.hold is None else [ask.hold]
        return decision

    def settle(self, answer: Any) -> None:
        """Of all that is held."""
        while self.holds:
            self.holds.pop().settle(answer)

    def forget(self) -> None:
        """What comes now is charged whatever came before."""
        self._met.clear()
        self._charged.clear()
