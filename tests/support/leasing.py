"""One client's leases at injected times, by the scripts on the real server; and what would be had it taken less."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from msgspec.structs import replace

from app.limiter.compiled_rule import Charge, ChargeRecord, CompiledRule
from app.limiter.decision import LeaseOutcome, Outcome
from app.limiter.keys import lease_name
from app.limiter.redis.scripts import lease_release_script, lease_script
from app.limiter.redis.store import RedisStore
from app.rules.rule import BUCKET_ALGORITHMS, Limit, Rule
from tests.support.deciders import new_client
from tests.support.models import MODELS

TTL_US = 60_000_000


class Leaser:
    """Checks, leases and returns of one client under these limits. A lease is known by its number, from 0."""

    def __init__(self, store: RedisStore, limits: Sequence[Limit]) -> None:
        self._store = store
        self.edit(limits)
        self.client = new_client()
        self._leases = 0

    def edit(self, limits: Sequence[Limit]) -> None:
        self.compiled = CompiledRule(Rule(id=1, client_id="*", limits=tuple(limits)))

    def check(self, cost: int, now_us: int) -> Outcome:
        return self._asked(Charge(self.compiled, self.client, cost), now_us)

    def lease(self, permits: int, now_us: int, ttl_us: int = TTL_US) -> LeaseOutcome:
        record = ChargeRecord(self.name(self._leases), b"%d" % ttl_us, lease_script())
        self._leases += 1
        return self._of_lease(Charge(self.compiled, self.client, permits, record), now_us)

    def give_back(self, number: int, unused: int, now_us: int) -> int:
        """How many were credited; -1: there is no such lease."""
        record = ChargeRecord(self.name(number), script=lease_release_script())
        return self._of_lease(Charge(self.compiled, self.client, unused, record), now_us).permits

    def remaining(self, now_us: int) -> int:
        """The least of all limits."""
        return self.check(0, now_us).remaining

    def each_remaining(self, now_us: int) -> list[int]:
        compiled_rules = [
            CompiledRule(replace(self.compiled.rule, limits=(limit,))) for limit in self.compiled.rule.limits
        ]
        return [self._asked(Charge(compiled, self.client, 0), now_us).remaining for compiled in compiled_rules]

    def name(self, number: int) -> bytes:
        """What follows the client's part in the key of a lease."""
        return lease_name(self.compiled.counter_names, str(number))

    def _of_lease(self, charge: Charge, now_us: int) -> LeaseOutcome:
        outcome = self._asked(charge, now_us)
        assert isinstance(outcome, LeaseOutcome)
        return outcome

    def _asked(self, charge: Charge, now_us: int) -> Outcome:
        [outcome] = self._store.check([charge], now_us)
        assert isinstance(outcome, Outcome), outcome
        return outcome


@dataclass
class Taken:
    """Units charged at a time: by a check, or by a lease that ends `until`, `unused` of them given back.

    `under` the limits of then.
    """

    at: int
    units: int
    until: int = 0
    unused: int = 0
    returned_at: int | None = None
    under: Sequence[Limit] = ()

    @property
    def used(self) -> int:
        return self.units - self.unused

    def out(self, now_us: int) -> int:
        """Permits that the holder may still use then."""
        may_use = now_us < self.until if self.returned_at is None else now_us <= self.returned_at
        return self.units if self.at < now_us and may_use else 0


@dataclass
class History:
    """What one client took, in order."""

    taken: list[Taken] = field(default_factory=list)

    def outstanding(self, now_us: int) -> bool:
        return any(each.returned_at is None and each.at <= now_us < each.until for each in self.taken)

    def remaining(self, limits: Sequence[Limit], number: int, now_us: int) -> int:
        """Of the limit of that number, had only what was used been charged, at the same times. A window that a lease
        began stays begun."""
        limit = limits[number]
        if limit.algorithm == "fixed_window":
            start = window_start(limit, self.taken, now_us)
            used = sum(each.used for each in self.taken if each.at >= start)
            return max(0, limit.rate - used)
        model = MODELS[str(limit.algorithm)]()
        for each in self.taken:
            model.charge(each.under[number], each.used, each.at)
        return model.remaining(limit, now_us)

    def most_above(self, limit: Limit) -> Fraction:
        """By how much, in the worst window, more was used than the limit lets through and leases had out before it."""
        worst = Fraction(-(10**12))
        for start in self._windows(limit):
            inside = [each for each in self.taken if start <= each.at < start + limit.window_us]
            out = sum(each.out(start) for each in self.taken)
            bound = limit.rate + (limit.capacity if limit.algorithm in BUCKET_ALGORITHMS else 0)
            worst = max(worst, Fraction(sum(each.used for each in inside) - bound - out))
        return worst

    def _windows(self, limit: Limit) -> set[int]:
        """Where the windows begin for which the algorithm promises something."""
        times = [each.at for each in self.taken]
        if limit.algorithm == "fixed_window":
            return {window_start(limit, self.taken, time) for time in times}
        if limit.algorithm == "sliding_window_counter":
            return {time // limit.window_us * limit.window_us for time in times}
        return set(times)


def window_start(limit: Limit, taken: Sequence[Taken], now_us: int) -> int:
    """Of the fixed window that counts then: the first charge after the one before had ended; else now."""
    start = 0
    for each in taken:
        if start + limit.window_us <= each.at <= now_us:
            start = each.at
    return start if now_us < start + limit.window_us else now_us + 1
