"""Redis for commands: with a long timeout, and without the parts that only checks need."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from app.environment import SettingsError, refusal
from app.limiter.breaker.breaker import Breaker
from app.limiter.errors import no_failure_of_the_store
from app.limiter.topology import AnyStore, store_for

TIMEOUT_MS = 2000
SETTING = "REDIS_URL"


@contextmanager
def connected(url: str) -> Iterator[AnyStore]:
    """A store for the URL. It opens no connection yet. Raises SettingsError."""
    try:
        own = store_for(url, timeout_ms=TIMEOUT_MS, make_breaker=_breaker, clock=time.monotonic)
    except ValueError as error:
        raise SettingsError(refusal(SETTING, url, str(error))) from None
    try:
        yield own.store
    finally:
        own.close()


# Cluster stores require breakers; during a command they hardly matter.
_breaker = partial(
    Breaker,
    failures=5,
    reset_seconds=1,
    probe_timeout_seconds=1.0,
    clock=time.monotonic,
    exclude=[no_failure_of_the_store],
    listeners=[],
)
