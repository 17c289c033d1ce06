"""Decides charges whose counters lie in several slots of a cluster, beside others that one slot decides.

Charges of one client are decided in their order. Equal ones of them travel together: what denies one of them denies all
that follow, so none is denied by units that another one of them gives back.
"""

from __future__ import annotations

from collections.abc import Sequence

import gevent

from app.limiter.breaker.guarded import guarded
from app.limiter.breaker.per_primary import AnyBreaker
from app.limiter.compiled_rule import Charge
from app.limiter.decision import Outcome
from app.limiter.errors import StoreError
from app.limiter.fallback.fallback_log import FallbackLog
from app.limiter.joint.parts import Part, PartOutcome
from app.limiter.joint.placement import spans
from app.limiter.joint.progress import Decided, PartFallback
from app.limiter.joint.unit import Steps, T, Unit, side_by_side
from app.limiter.store import PartStore


class Spanning:
    """Decides for one worker, through the breaker of the store."""

    def __init__(
        self, *, store: PartStore, breaker: AnyBreaker, fallback: PartFallback, fallback_log: FallbackLog
    ) -> None:
        self._store = store
        self._breaker = breaker
        self._fallback = fallback
        self._fallback_log = fallback_log

    def outcomes(self, charges: Sequence[Charge]) -> list[Decided]:
        """Return the result of each charge."""
        clients = {charge.client for charge in charges if spans(charge)}
        lanes: dict[tuple[bytes, bool], list[int]] = {}
        others = []
        for place, charge in enumerate(charges):
            if charge.client in clients:
                lanes.setdefault((charge.client, charge.compiled.rule.shadow), []).append(place)
            else:
                others.append(place)
        beside = gevent.spawn(self.check, [charges[place] for place in others]) if others else None
        lanes_of = [self._lane([charges[place] for place in places]) for places in lanes.values()]
        found = self.run(side_by_side(lanes_of))
        results: dict[int, Decided] = dict(zip(others, beside.get(), strict=True)) if beside else {}
        for places, decided in zip(lanes.values(), found, strict=True):
            results.update(zip(places, decided, strict=True))
        return [results[place] for place in range(len(charges))]

    def together(self, charges: Sequence[Charge], *, only_ask: bool) -> list[Decided]:
        """Return the results of charges that are admitted together or not at all."""
        if not charges:
            return []
        return self.run(Unit(charges, self._fallback, spans=self._store.spans, only_ask=only_ask).decide())

    def run(self, steps: Steps[T]) -> T:
        """Take the steps to their end."""
        try:
            parts = next(steps)
            while True:
                parts = steps.send(self.decide(parts))
        except StopIteration as end:
            result: T = end.value
            return result

    def _lane(self, charges: Sequence[Charge]) -> Steps[list[Decided]]:
        """Decide charges of one client in their order."""
        results: list[Decided] = []
        for run in _runs(charges):
            found = yield from side_by_side([Unit([charge], self._fallback).decide() for charge in run])
            results += _as_the_first_denied([decided for [decided] in found])
        return results

    def decide(self, parts: Sequence[Part]) -> Sequence[PartOutcome | StoreError]:
        """Return the outcome of each part, in one round trip to each server."""
        found, decides = guarded(self._breaker, self._store.decide, parts)
        if decides:
            self._fallback_log.redis_decided()
        return found

    def check(self, charges: Sequence[Charge]) -> Sequence[Outcome | StoreError]:
        """Return the outcome of each charge, of which none spans slots."""
        found, _ = guarded(self._breaker, self._store.check, charges)
        return found


def _runs(charges: Sequence[Charge]) -> list[list[Charge]]:
    """Return the charges in runs of equal ones. A request id is once in a run: its repetition follows the answer."""
    runs: list[list[Charge]] = []
    asked: set[bytes] = set()
    for charge in charges:
        name = charge.record.name if charge.record is not None else b""
        if not runs or not _equal(charge, runs[-1][0]) or name in asked:
            runs.append([])
            asked = set()
        runs[-1].append(charge)
        asked |= {name} - {b""}
    return runs


def _as_the_first_denied(found: Sequence[Decided]) -> list[Decided]:
    """Return the results of a run. Every denial is the first: later ones may see units that are on their way back."""
    denied = [each for each in found if isinstance(each, Outcome) and not each.allowed]
    return [denied[0] if isinstance(each, Outcome) and not each.allowed else each for each in found]


def _equal(one: Charge, other: Charge) -> bool:
    return one.compiled is other.compiled and one.owners == other.owners and one.cost == other.cost
