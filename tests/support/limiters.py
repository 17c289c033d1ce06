"""A limiter put together as the wiring does, around a store and rules of the test's choice."""

from __future__ import annotations

import time
from collections.abc import Callable

from app.limiter.breaker import Breaker
from app.limiter.denial_cache import DenialCache
from app.limiter.ladder import Ladder
from app.limiter.limited_clients import LimitedClients
from app.limiter.limiter import Limiter, RuleSource, Store
from app.limiter.local_store import LocalStore
from app.observability.active_clients import ActiveClients


def limiter_of(
    rules: RuleSource,
    store: Store,
    *,
    fail_mode: str = "open",
    holders: int = 4,
    denials_clock: Callable[[], float] = time.monotonic,
) -> Limiter:
    """Its breaker opens after three failures; a minute later it would probe. Denied clients are counted, never sent."""
    breaker = Breaker(failures=3, reset_seconds=60, clock=time.monotonic)
    return Limiter(
        rules=rules,
        store=store,
        ladder=Ladder(local=LocalStore(holders=holders), breaker=breaker, fail_mode=fail_mode, clock=time.time),
        breaker=breaker,
        denials=DenialCache(denials_clock),
        active_clients=ActiveClients(time.monotonic),
        limited_clients=LimitedClients(client=None, rules=rules, clock=time.time),
        clock=time.time,
    )
