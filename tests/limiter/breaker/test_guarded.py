"""What the outcomes of a batch mean to the breaker in front of the store."""

from __future__ import annotations

from collections.abc import Sequence

import gevent
import pytest

from app.limiter.breaker.guarded import guarded
from app.limiter.compiled_rule import Charge, CompiledRule
from app.limiter.decision import Outcome
from app.limiter.errors import RequestIdConflict, StoreBusy, StoreError, StoreFault, StoreFull, StoreUnavailable
from app.rules.rule import Limit, Rule
from tests.support.clock import Clock
from tests.support.limiters import breaker_of

CHARGE = Charge(CompiledRule(Rule(id=1, client_id="*", limits=(Limit(5, 60, "gcra"),))), b"client", 1)
DECIDED = Outcome(True, 0, 1, 0, 1, 1)
UNAVAILABLE, FAULT, FULL = StoreUnavailable("away"), StoreFault("nonsense"), StoreFull("OOM")


class Answering:
    """Gives these outcomes, or raises this error."""

    def __init__(self, answer: Sequence[Outcome | StoreError] | BaseException) -> None:
        self.answer = answer
        self.asked = 0

    def check(self, charges: Sequence[Charge]) -> list[Outcome | StoreError]:
        self.asked += 1
        if isinstance(self.answer, BaseException):
            raise self.answer
        assert len(charges) == len(self.answer)
        return list(self.answer)


@pytest.mark.parametrize(
    ("answer", "decides", "state"),
    [
        ([DECIDED, DECIDED], True, "closed"),
        ([DECIDED, FULL], True, "closed"),
        ([FULL, FAULT], True, "closed"),
        ([RequestIdConflict("another")], True, "closed"),
        ([DECIDED, FAULT], True, "closed"),
        ([DECIDED, UNAVAILABLE], False, "open"),
        ([FAULT, UNAVAILABLE], False, "open"),
        ([FAULT, FAULT], False, "half_open"),
        (UNAVAILABLE, False, "open"),
        (StoreBusy("its own load"), False, "half_open"),
    ],
)
def test_a_probe_closes_opens_or_proves_nothing(
    answer: list[Outcome | StoreError] | StoreError, decides: bool, state: str
) -> None:
    clock = Clock()
    breaker = breaker_of(clock)
    breaker.open()
    clock.now += 60
    count = 1 if isinstance(answer, StoreError) else len(answer)
    outcomes, proven = guarded(breaker, Answering(answer).check, [CHARGE] * count)
    assert (list(outcomes), proven) == ([answer] if isinstance(answer, StoreError) else answer, decides)
    assert breaker.status().state == state
    if state == "half_open":  # given back: the next one may probe at once
        guarded(breaker, Answering([DECIDED]).check, [CHARGE])
        assert breaker.status().state == "closed"


@pytest.mark.parametrize("error", [ValueError("a bug"), gevent.GreenletExit()])
def test_what_is_no_error_of_the_store_goes_on_and_proves_nothing(error: BaseException) -> None:
    clock = Clock()
    breaker = breaker_of(clock)
    breaker.open()
    clock.now += 60
    with pytest.raises(type(error)):
        guarded(breaker, Answering(error).check, [CHARGE])
    assert breaker.probe_due


def test_while_it_is_open_the_store_is_not_asked() -> None:
    breaker, store = breaker_of(), Answering([DECIDED])
    breaker.open()
    outcomes, decides = guarded(breaker, store.check, [CHARGE, CHARGE], "of one:7000 ")
    assert [str(outcome) for outcome in outcomes] == ["circuit of one:7000 open"] * 2
    assert (decides, store.asked) == (False, 0)
