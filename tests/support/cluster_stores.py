"""Clusters of real servers, and stores on them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from app.limiter.breaker.breaker import Breaker
from app.limiter.breaker.per_primary import PrimaryBreakers
from app.limiter.compiled_rule import Charge, CompiledRule
from app.limiter.errors import no_failure_of_the_store
from app.limiter.keys import CLUSTER_SLOTS
from app.limiter.redis.cluster import Cluster
from app.limiter.redis.cluster_store import ClusterStore
from app.limiter.redis.endpoint import RedisEndpoint
from app.rules.rule import Limit, Rule
from tests.support.deciders import new_client
from tests.support.node import free_port
from tests.support.topologies import CLUSTER_USER, ClusterGroup, Group, eventually

RULE = CompiledRule(Rule(id=12345, client_id="*", limits=(Limit(5, 3600, "fixed_window"),)))


def store_at(url: str, timeout_ms: int = 5000) -> tuple[ClusterStore, PrimaryBreakers]:
    exclude = [no_failure_of_the_store]
    make = partial(Breaker, failures=3, reset_seconds=60, lease_seconds=1, clock=time.monotonic, exclude=exclude)
    breakers = PrimaryBreakers(make, time.monotonic)
    servers = RedisEndpoint(url, timeout_ms / 1000)
    return ClusterStore(Cluster(servers, timeout_ms=timeout_ms, breakers=breakers, clock=time.monotonic)), breakers


def charges_everywhere(number: int = 60) -> list[Charge]:
    """Of so many new clients: on each of three primaries some."""
    return [Charge(RULE, new_client(), 1) for _ in range(number)]


@contextmanager
def cluster_of_one(directory: Path, sockets: Path) -> Iterator[tuple[Group, int]]:
    """A cluster of one server, and its port."""
    with ExitStack() as running:
        group = Group(directory, sockets, running)
        users = group.users(*CLUSTER_USER)
        port = group.start(cluster_enabled="yes", cluster_port=str(free_port()), aclfile=users)
        found_cluster(group, port)
        yield group, port


def found_cluster(group: Group, port: int) -> None:
    group.ask(port, "CLUSTER", "ADDSLOTSRANGE", 0, CLUSTER_SLOTS - 1)
    eventually(lambda: "cluster_state:ok" in group.ask(port, "CLUSTER", "INFO"))


def loaded(cluster: ClusterGroup, port: int) -> int:
    """How many scripts it was told."""
    stats = cluster.ask(port, "INFO", "commandstats")
    return int(stats.partition("cmdstat_script|load:calls=")[2].partition(",")[0] or 0)
