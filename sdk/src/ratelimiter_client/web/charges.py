"""One request, one charge: two limits of a request that meet the same counter charge it once."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, Callable, Generator, NamedTuple, Sequence, Tuple

from ratelimiter_client.decision import Decision
from ratelimiter_client.errors import RateLimiterError
from ratelimiter_client.identify import Environ

RECORD = "ratelimiter.charges"  # in the environ
HOLD_SECONDS = 60.0  # the units count if the answer takes longer


class Hold:
    """Units lent to a request, by a lease, until its answer decides whether they count."""

    def __init__(self, deduct_when: Callable[[Any], Any]) -> None:
        self._conditions = [deduct_when]  # the units count if any of these returns true
        self._give_back: Callable[[], Any] | None = None

    def take(self, limiter: Any, ask: Ask) -> Decision | None:
        """The decision of a lease of all units; None if a check has to decide, without a lease or with a smaller one.

        With None nothing is held, and the charge of the check counts.
        """
        try:
            lease = limiter.lease(ask.client_id, ask.limit_key, ask.cost, HOLD_SECONDS, **ask.options)
            if 0 < lease.granted < ask.cost:
                limiter.return_lease(lease.lease_id, lease.granted)
        except RateLimiterError:
            return None
        if lease.granted < ask.cost:
            return lease.decision if lease.granted == 0 and ask.cost == 1 else None
        self._give_back = lambda: limiter.return_lease(lease.lease_id, lease.granted)
        return lease.decision  # type: ignore[no-any-return]

    def join(self, other: Hold | None) -> None:
        """Add another limit with the same counter: the units count if either says so. None: they count in any case."""
        self._conditions += [lambda _: True] if other is None else other._conditions

    def settle(self, answer: Any) -> None:
        """Return the units if they do not count. Units that cannot be returned count."""
        if self._give_back is not None and not any(counts(answer) for counts in self._conditions):
            with suppress(RateLimiterError):
                self._give_back()
        self._give_back = None


class Ask(NamedTuple):
    """A question for the service. `hold`: lend the units instead of charging them."""

    client_id: str
    limit_key: str
    cost: int
    hold: Hold | None = None
    groups: tuple[str, ...] = ()

    @property
    def options(self) -> dict[str, Any]:
        """The groups as an argument, where there are any: a limiter of the application's own may take none."""
        return {"groups": self.groups} if self.groups else {}


Place = Tuple[int, str]  # a limiter and a client id


class Charge(NamedTuple):
    """The charge of one counter."""

    units: int
    hold: Hold | None


Steps = Generator[Ask, Decision, Decision]


class Charges:
    """The decisions on one request, in their order, and its charges. `holds` wait for its answer."""

    def __init__(self) -> None:
        self.decisions: list[Decision] = []
        self.holds: list[Hold] = []
        self._met: dict[tuple[Place, str, tuple[str, ...]], Decision] = {}  # by limit key and groups
        self._charged: dict[tuple[Place, int | str], Charge] = {}  # by rule

    @classmethod
    def of(cls, environ: Environ) -> Charges:
        """The charges of the request."""
        found: Charges = environ.setdefault(RECORD, cls())
        return found

    def steps(self, limiter: object, ask: Ask) -> Steps:
        """Yields questions for the limiter, each to be answered by its decision. Returns the decision on `ask`.

        One rule counts a client once. For a client that was charged before, a question of cost 0 finds the rule that
        decides. If that rule charged before, only the difference is charged, if this costs more.
        """
        if ask.cost <= 0:  # nothing to charge; the limiter denies a negative cost
            return (yield ask._replace(hold=None))
        place = (id(limiter), ask.client_id)
        met = self._met.get((place, ask.limit_key, ask.groups))
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
            self._met[place, ask.limit_key, ask.groups] = decision
            self._charged[place, decision.rule_id] = Charge(ask.cost + (charge.units if charge else 0), ask.hold)
            self.holds += [] if ask.hold is None else [ask.hold]
        return decision

    def together(self, limiter: object, asks: Sequence[Ask], decisions: Sequence[Decision]) -> None:
        """Record the answers to questions that were all admitted and charged, or none."""
        if not all(decision.allowed for decision in decisions):
            return
        for ask, decision in zip(asks, decisions):
            if ask.cost > 0 and decision.error is None:
                place = (id(limiter), ask.client_id)
                before = self._charged.get((place, decision.rule_id), Charge(0, None))
                self._met[place, ask.limit_key, ask.groups] = decision
                self._charged[place, decision.rule_id] = Charge(max(before.units, ask.cost), None)

    @property
    def untouched(self) -> bool:
        """Whether nothing was charged yet."""
        return not self._charged

    def settle(self, answer: Any) -> None:
        """Settle all holds."""
        while self.holds:
            self.holds.pop().settle(answer)

    def forget(self) -> None:
        """Charge anew from now on, whatever was charged before."""
        self._met.clear()
        self._charged.clear()
