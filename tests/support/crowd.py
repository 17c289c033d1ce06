"""A crowd: many clients of one organisation who ask two nodes at the same time, and what their counters then hold."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import redis

from app.limiter.keys import FORMATS, Keyspace
from app.rules.rule import ALGORITHMS, BUCKET_ALGORITHMS
from tests.support.burst import Burst
from tests.support.joints import units
from tests.support.layered import rule
from tests.support.node import Node
from tests.support.topologies import ClusterGroup

CLIENTS = 200
HOUR, WEEK = 3600, 7 * 24 * 3600
OWN, ORG, EVERYONE = (5, HOUR), (50, HOUR), (10_000, WEEK)  # rate and window of each layer
# By layer: the same algorithm in all, and five times three different ones.
CASES = [*((name,) * 3 for name in ALGORITHMS), *((ALGORITHMS * 2)[at : at + 3] for at in range(len(ALGORITHMS)))]
Read = Callable[[Sequence[bytes]], list[bytes | None]]


@dataclass(frozen=True)
class Counters:
    """Of one layer. `slack`: units that time gave back in a second, or that a denial may leave for a second."""

    rate: int
    window: int
    algorithm: str

    @property
    def slack(self) -> float:
        return self.rate / self.window if self.algorithm in BUCKET_ALGORITHMS else 0

    def name(self, rule_id: int) -> bytes:
        return b":%d:1%b" % (rule_id, FORMATS[self.algorithm])


class Crowd:
    """The clients of one case, each with a counter of its own, one of its org and one of everybody.

    `read` gets the states of keys from Redis, past the service.
    """

    def __init__(self, case: int, rules: Sequence[int], keyspace: Keyspace, read: Read) -> None:
        self._case, self._rules, self._keyspace, self._read = case, rules, keyspace, read
        layers = zip((OWN, ORG, EVERYONE), CASES[case], strict=True)
        self.layers = [Counters(*numbers, algorithm) for numbers, algorithm in layers]
        self.admitted, self.began = 0, time.monotonic()  # in all bursts

    def clients(self, burst: int) -> list[str]:
        return [f"member {self._case} {burst}.{number}" for number in range(CLIENTS)]

    def org(self, burst: int) -> str:
        return f"org:{self._case}.{burst}"

    def requests(self, burst: int) -> list[tuple[str, bytes]]:
        groups = [self.org(burst)]
        bodies = [{"client_id": client, "groups": groups} for client in self.clients(burst)]
        return [("/v1/check", json.dumps(body).encode()) for body in bodies]

    def keys(self, burst: int) -> list[bytes]:
        """The counters of the org and of everybody, then those of the clients."""
        own, org, everyone = (layer.name(number) for layer, number in zip(self.layers, self._rules, strict=True))
        org_rule, everyone_rule = rule(self._rules[1], group="org:*"), rule(self._rules[2], "*")
        return [
            self._keyspace.shared(1, org_rule, self.org(burst)) + org,
            self._keyspace.shared(1, everyone_rule, None) + everyone,
            *[self._keyspace.client(1, client) + own for client in self.clients(burst)],
        ]

    def units(self, burst: int, first: int = CLIENTS + 2) -> list[float]:
        """What the first of these counters hold."""
        keys = self.keys(burst)[:first]
        windows = [ORG[1], EVERYONE[1], *[OWN[1]] * CLIENTS]
        return [units(*each) for each in zip(keys, self._read(keys), windows[:first], strict=True)]


def rules_of(case: int) -> list[dict[str, Any]]:
    """The three rules of a case, as the API takes them."""
    places = [
        {"client_id": f"member {case} *"},
        {"group": f"org:{case}.*", "layer": "org", "shared": True},
        {"client_id": f"member {case} *", "layer": "z", "shared": True},
    ]
    return [
        place | {"rate": rate, "window": window, "algorithm": algorithm}
        for place, (rate, window), algorithm in zip(places, (OWN, ORG, EVERYONE), CASES[case], strict=True)
    ]


@contextmanager
def both(nodes: Sequence[Node]) -> Iterator[list[Burst]]:
    """Connections to two nodes, half of the crowd each."""
    with Burst(nodes[0].port, CLIENTS // 2) as here, Burst(nodes[1].port, CLIENTS // 2) as there:
        yield [here, there]


@dataclass(frozen=True)
class Asked:
    decisions: list[dict[str, Any]]
    seconds: float
    most: list[float]  # seen meanwhile in the counters of the org and of everybody


def ask(crowd: Crowd, burst: int, bursts: Sequence[Burst]) -> Asked:
    """All clients at once; their counters are read all the time."""
    requests, most, done = crowd.requests(burst), [0.0, 0.0], threading.Event()

    def watch() -> None:
        while not done.wait(0.002):
            most[:] = map(max, zip(most, crowd.units(burst, first=2), strict=True))

    watching = threading.Thread(target=watch)
    watching.start()
    began = time.monotonic()
    try:
        for number, each in enumerate(bursts):
            each.send(requests[number * CLIENTS // 2 :][: CLIENTS // 2])
        decisions = [json.loads(body) for each in bursts for body in each.receive()]
    finally:
        done.set()
        watching.join()
    return Asked(decisions, time.monotonic() - began, most)


def reader(client: redis.Redis) -> Read:
    return lambda keys: client.mget(keys)  # type: ignore[return-value]


@contextmanager
def cluster_reader(cluster: ClusterGroup) -> Iterator[Read]:
    """Asks every primary: only the owner of a slot answers, also while it moves."""
    clients = [redis.Redis(port=port) for port in cluster.primaries]

    def read(keys: Sequence[bytes]) -> list[bytes | None]:
        found: dict[bytes, bytes] = {}
        for client in clients:
            with client.pipeline(transaction=False) as pipeline:
                for key in keys:
                    pipeline.get(key)
                answers = pipeline.execute(raise_on_error=False)
            found |= {key: answer for key, answer in zip(keys, answers, strict=True) if isinstance(answer, bytes)}
        return [found.get(key) for key in keys]

    yield read
    for client in clients:
        client.close()
