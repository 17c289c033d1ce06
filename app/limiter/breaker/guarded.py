"""Calls the store through a breaker, which receives one verdict for all that is asked together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from app.limiter.breaker.per_primary import AnyBreaker
from app.limiter.errors import StoreError, StoreFault, StoreUnavailable

Asked = TypeVar("Asked")
Found = TypeVar("Found")


def guarded(
    breaker: AnyBreaker,
    call: Callable[[Sequence[Asked]], Sequence[Found | StoreError]],
    asked: Sequence[Asked],
    server: str = "",
) -> tuple[Sequence[Found | StoreError], bool]:
    """Return the outcome of each item asked, or its own error, and whether they prove that the store decides.

    `call` asks the store. It is not called while the breaker is open. `server` names the guarded server in errors,
    where there are several.
    """
    mark = breaker.admit()
    if mark is None:
        return [StoreUnavailable(f"circuit {server}open")] * len(asked), False
    try:
        outcomes = call(asked)
    except StoreError as failed:  # the round trip itself failed
        breaker.settle(mark, failed)
        return [failed] * len(asked), False
    except BaseException:  # a bug or a killed greenlet says nothing about the store
        breaker.give_back(mark)
        raise
    error = verdict(outcomes)
    breaker.settle(mark, error)
    return outcomes, error is None


def verdict(outcomes: Sequence[object]) -> StoreError | None:
    """Return the error that the breaker should see for these outcomes; None if the store decides.

    A StoreUnavailable counts against the store. If all outcomes are faults, the first one proves nothing either way.
    """
    for outcome in outcomes:
        if isinstance(outcome, StoreError):
            unavailable = next((each for each in outcomes if isinstance(each, StoreUnavailable)), None)
            return unavailable or (outcome if all(isinstance(each, StoreFault) for each in outcomes) else None)
    return None
