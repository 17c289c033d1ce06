"""What a trip to the store, with the outcomes of several checks, means to a breaker."""

from __future__ import annotations

from collections.abc import Sequence

from app.limiter.decision import Outcome
from app.limiter.errors import StoreError, StoreFault, StoreUnavailable


class TripFailed(StoreUnavailable):
    """Some outcomes of the trip are errors that count against the store. Carries all of them."""

    def __init__(self, outcomes: Sequence[Outcome | StoreError]) -> None:
        first = next(outcome for outcome in outcomes if isinstance(outcome, StoreUnavailable))
        super().__init__("the store could not decide every check", first.failure)
        self.outcomes = outcomes


class TripUndecided(StoreFault):
    """All outcomes of the trip are faults: it proves nothing about the store. Carries all of them."""

    def __init__(self, outcomes: Sequence[Outcome | StoreError]) -> None:
        super().__init__("the store could decide no check")
        self.outcomes = outcomes


def judge(outcomes: Sequence[Outcome | StoreError]) -> None:
    """Raise what a trip with errors means to the breaker; nothing where it proves that the store decides."""
    if any(isinstance(outcome, StoreUnavailable) for outcome in outcomes):
        raise TripFailed(outcomes)
    if all(isinstance(outcome, StoreFault) for outcome in outcomes):
        raise TripUndecided(outcomes)
