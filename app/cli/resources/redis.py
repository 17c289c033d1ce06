"""Redis for commands: with a long timeout, and without the parts that only checks need."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TypeAlias

from app.environment import SettingsError, refusal
from app.limiter.breaker.breaker import Breaker
from app.limiter.breaker.per_primary import PrimaryBreakers
from app.limiter.errors import no_failure_of_the_store
from app.limiter.redis.cluster import Cluster
from app.limiter.redis.cluster_store import ClusterStore
from app.limiter.redis.endpoint import CLUSTER, RedisEndpoint
from app.limiter.redis.store import RedisStore, connect

TIMEOUT_MS = 2000
SETTING = "REDIS_URL"

Store: TypeAlias = RedisStore | ClusterStore


@contextmanager
def connected(url: str) -> Iterator[Store]:
    """A store for the URL. It opens no connection yet. Raises SettingsError."""
    try:
        endpoint = RedisEndpoint(url, TIMEOUT_MS / 1000)
    except ValueError as error:
        raise SettingsError(refusal(SETTING, url, str(error))) from None
    if endpoint.topology == CLUSTER:
        yield ClusterStore(Cluster(endpoint, timeout_ms=TIMEOUT_MS, breakers=_breakers(), clock=time.monotonic))
        return
    connection = connect(url, timeout_ms=TIMEOUT_MS, clock=time.monotonic)
    try:
        yield RedisStore(connection)
    finally:
        connection.drop()


def _breakers() -> PrimaryBreakers:
    """Breakers, which a cluster store requires; during a command they hardly matter."""
    return PrimaryBreakers(
        partial(
            Breaker,
            failures=5,
            reset_seconds=1,
            lease_seconds=1.0,
            clock=time.monotonic,
            exclude=[no_failure_of_the_store],
            listeners=[],
        ),
        time.monotonic,
    )
