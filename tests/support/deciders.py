"""The two implementations of every algorithm behind one face: Lua on the real server, and the Python steps."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any, Protocol

from app.limiter.algorithms import decide
from app.limiter.compiled_rule import Charge, CompiledRule
from app.limiter.decision import Outcome
from app.limiter.keys import Keyspace
from app.limiter.redis.store import RedisStore
from app.rules.rule import Limit, Rule

SECOND = 1_000_000
# Some instant that no window of the tests divides: 2026-03-14 15:09:26.535897.
START = 1_773_500_966_535_897


class Decider(Protocol):
    def check(self, limits: Sequence[Limit], cost: int, now_us: int) -> Outcome: ...


class LuaDecider:
    """One client's counters in Redis, decided by the scripts at injected times."""

    def __init__(self, store: RedisStore) -> None:
        self._store = store
        self._client = new_client()

    def check(self, limits: Sequence[Limit], cost: int, now_us: int) -> Outcome:
        compiled = CompiledRule(Rule(id=1, client_id="*", limits=tuple(limits)))
        outcome = self._store.check([Charge(compiled, self._client, cost)], now_us)[0]
        assert isinstance(outcome, Outcome), outcome
        return outcome


def new_client() -> bytes:
    """The part of the keys of a client nobody else has."""
    return Keyspace(b"a secret of the tests").client(1, uuid.uuid4().hex)


class PythonDecider:
    """One client's counters in memory, decided by the Python steps."""

    def __init__(self) -> None:
        self._states: dict[tuple[int, str | None], Any] = {}

    def check(self, limits: Sequence[Limit], cost: int, now_us: int) -> Outcome:
        names = [(limit.counter, limit.algorithm) for limit in limits]
        states, outcome = decide([self._states.get(name) for name in names], limits, cost, now_us)
        if states is not None:
            self._states.update(zip(names, states, strict=True))
        return outcome
