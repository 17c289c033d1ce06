"""What a worker keeps for the shares by which it decides alone."""

from __future__ import annotations

import pytest

from app.limiter.compiled_rule import Charge, CompiledRule
from app.limiter.fallback import local_store
from app.limiter.fallback.local_store import LocalStore
from app.rules.rule import Limit, Rule


def test_shares_of_rules_that_are_gone_are_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rules that decide keep theirs, and a share that is made again goes on with its counter."""
    monkeypatch.setattr(local_store, "MAX_SHARES", 3)
    subject = LocalStore(holders=1)
    rules = [CompiledRule(Rule(id=n, client_id="*", limits=(Limit(2, 3600, "fixed_window"),))) for n in range(6)]

    def share(number: int) -> tuple[CompiledRule, bool]:
        compiled, outcome = subject.check(Charge(rules[number], b"a", 1), 10**15)
        return compiled, outcome.allowed

    kept, gone = share(0), share(1)
    for number in range(2, 6):
        share(number)
        assert share(0)[0] is kept[0]
    again = share(1)
    assert again[0] is not gone[0]
    assert (gone[1], again[1], share(1)[1]) == (True, True, False)
