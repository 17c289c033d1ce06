"""One client's leases at injected times, by the scripts on the real server."""

from __future__ import annotations

from collections.abc import Sequence

from app.limiter.decision import LeaseOutcome, Outcome
from app.limiter.keys import lease_name
from app.limiter.plan import Charge, Once, Plan
from app.limiter.redis_store import RedisStore
from app.limiter.scripts import lease_script, return_script
from app.rules.rule import Limit, Rule
from tests.support.deciders import new_client

TTL_US = 60_000_000


class Leaser:
    """Checks, leases and returns of one client under these limits. A lease is known by its number."""

    def __init__(self, store: RedisStore, limits: Sequence[Limit]) -> None:
        self._store = store
        self.plan = Plan(Rule(id=1, client_id="*", limits=tuple(limits)))
        self.client = new_client()
        self._leases = 0

    def check(self, cost: int, now_us: int) -> Outcome:
        outcome = self._asked(Charge(self.plan, self.client, cost), now_us)
        assert not isinstance(outcome, LeaseOutcome)
        return outcome

    def lease(self, permits: int, now_us: int, ttl_us: int = TTL_US) -> LeaseOutcome:
        """Its number is that of the leases before it."""
        once = Once(self.name(self._leases), b"%d" % ttl_us, lease_script())
        self._leases += 1
        return self._of_lease(Charge(self.plan, self.client, permits, once), now_us)

    def give_back(self, number: int, unused: int, now_us: int) -> int:
        """How many were credited; -1: there is no such lease."""
        once = Once(self.name(number), script=return_script())
        return self._of_lease(Charge(self.plan, self.client, unused, once), now_us).permits

    def remaining(self, now_us: int) -> int:
        return self.check(0, now_us).remaining

    def name(self, number: int) -> bytes:
        """What follows the client's part in the key of a lease."""
        return lease_name(self.plan.names, str(number))

    def _of_lease(self, charge: Charge, now_us: int) -> LeaseOutcome:
        outcome = self._asked(charge, now_us)
        assert isinstance(outcome, LeaseOutcome)
        return outcome

    def _asked(self, charge: Charge, now_us: int) -> Outcome:
        [outcome] = self._store.check([charge], now_us)
        assert isinstance(outcome, Outcome), outcome
        return outcome
