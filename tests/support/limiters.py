"""A limiter put together as the wiring does, around a store and rules of the test's choice."""

from __future__ import annotations

import time
from collections.abc import Callable

from app.limiter.breaker.breaker import Breaker
from app.limiter.breaker.per_primary import AnyBreaker
from app.limiter.breaker.shared_state import Circuit
from app.limiter.denial_cache import DenialCache
from app.limiter.denied_clients import DeniedClients
from app.limiter.errors import no_failure_of_the_store
from app.limiter.fallback.fallback import Fallback
from app.limiter.fallback.fallback_log import FallbackLog
from app.limiter.fallback.local_store import LocalStore
from app.limiter.leases import Leases
from app.limiter.limiter import Limiter
from app.limiter.store import PartStore, RuleSource
from app.observability.active_clients import ActiveClients


def breaker_of(clock: Callable[[], float] = time.monotonic) -> Breaker:
    """Opens after three failures; a minute later it would probe."""
    return Breaker(
        circuit=Circuit(),
        failures=3,
        reset_seconds=60,
        probe_timeout_seconds=1,
        clock=clock,
        exclude=[no_failure_of_the_store],
    )


def limiter_of(
    rules: RuleSource,
    store: PartStore,
    *,
    fail_mode: str = "open",
    holders: int = 4,
    breaker: AnyBreaker | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Limiter:
    """Denied clients are counted, never sent. `clock` is monotonic, of what is remembered: denials, what was logged."""
    breaker = breaker or breaker_of()
    fallback_log = FallbackLog(clock)
    denials = DenialCache(clock)
    return Limiter(
        rules=rules,
        store=store,
        fallback=Fallback(
            local=LocalStore(holders=holders),
            breaker=breaker,
            denials=denials,
            fail_mode=fail_mode,
            fallback_log=fallback_log,
            clock=time.time,
        ),
        breaker=breaker,
        fallback_log=fallback_log,
        denials=denials,
        active_clients=ActiveClients(time.monotonic),
        denied_clients=DeniedClients(store=None, rules=rules, clock=time.time),
        clock=time.time,
        monotonic=clock,
    )


class _Seen:
    """Counts nothing."""

    def denied(self, *_: object) -> None: ...


def leases_of(limiter: Limiter) -> Leases:
    """Leases of the same worker."""
    return Leases(
        limiter=limiter,
        fallback=limiter._fallback,
        active_clients=ActiveClients(time.monotonic),
        denied_clients=_Seen(),
        clock=time.time,
    )
