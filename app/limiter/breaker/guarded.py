"""Calls the store through a breaker, which receives one verdict for all charges together."""

from __future__ import annotations

from collections.abc import Sequence

from app.limiter.breaker.per_primary import AnyBreaker
from app.limiter.compiled_rule import Charge
from app.limiter.decision import Outcome
from app.limiter.errors import StoreError, StoreFault, StoreUnavailable
from app.limiter.store import Store

Outcomes = Sequence[Outcome | StoreError]


def guarded(breaker: AnyBreaker, store: Store, charges: Sequence[Charge], server: str = "") -> tuple[Outcomes, bool]:
    """Return each charge's outcome or its own error, and whether they prove that the store decides.

    The store is not called while the breaker is open. `server` names the guarded server in errors, where there are
    several.
    """
    mark = breaker.admit()
    if mark is None:
        return [StoreUnavailable(f"circuit {server}open")] * len(charges), False
    try:
        outcomes = store.check(charges)
    except StoreError as failed:  # the round trip itself failed
        breaker.settle(mark, failed)
        return [failed] * len(charges), False
    except BaseException:  # a bug or a killed greenlet says nothing about the store
        breaker.give_back(mark)
        raise
    error = verdict(outcomes)
    breaker.settle(mark, error)
    return outcomes, error is None


def verdict(outcomes: Outcomes) -> StoreError | None:
    """Return the error that the breaker should see for these outcomes; None if the store decides.

    A StoreUnavailable counts against the store. If all outcomes are faults, the first one proves nothing either way.
    """
    for outcome in outcomes:
        if isinstance(outcome, StoreError):
            unavailable = next((each for each in outcomes if isinstance(each, StoreUnavailable)), None)
            return unavailable or (outcome if all(isinstance(each, StoreFault) for each in outcomes) else None)
    return None
