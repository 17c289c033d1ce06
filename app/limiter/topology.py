"""The store for a Redis URL: for one server, for the primary that sentinels name, or for a cluster."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

from app.limiter.breaker.breaker import Breaker
from app.limiter.breaker.per_primary import AnyBreaker, PrimaryBreakers
from app.limiter.breaker.shared_state import Circuit
from app.limiter.redis.cluster import Cluster
from app.limiter.redis.cluster_store import ClusterStore
from app.limiter.redis.endpoint import CLUSTER, RedisEndpoint
from app.limiter.redis.store import RedisStore, connect

AnyStore: TypeAlias = RedisStore | ClusterStore


class OwnStore(NamedTuple):
    """A store with its own connections, and the breaker that guards it. `close` closes the connection to one server."""

    store: AnyStore
    breaker: AnyBreaker
    close: Callable[[], None]


def store_for(
    url: str, *, timeout_ms: int, make_breaker: Callable[..., Breaker], clock: Callable[[], float]
) -> OwnStore:
    """Return the store for the URL. Opens no connection yet. `clock`: monotonic seconds.

    `make_breaker` takes a `circuit` and, in a cluster, the `name` of a server. Raises ValueError for an unusable URL.
    """
    endpoint = RedisEndpoint(url, timeout_ms / 1000)
    if endpoint.topology == CLUSTER:
        breakers = PrimaryBreakers(make_breaker, clock)
        cluster = Cluster(endpoint, timeout_ms=timeout_ms, breakers=breakers, clock=clock)
        return OwnStore(ClusterStore(cluster), breakers, lambda: None)
    breaker = make_breaker(circuit=Circuit())
    connection = connect(url, timeout_ms=timeout_ms, clock=clock, replaced=breaker.probe_soon)
    return OwnStore(RedisStore(connection), breaker, connection.drop)
