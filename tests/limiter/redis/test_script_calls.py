"""Checks that travel together are decided as if each had come alone, and one that cannot be hinders no other."""

from __future__ import annotations

import time
from pathlib import Path
from typing import NamedTuple

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client import REGISTRY

from app.limiter.compiled_rule import Charge, ChargeRecord, CompiledRule
from app.limiter.decision import Outcome
from app.limiter.errors import RequestIdConflict, StoreError, StoreFault
from app.limiter.joint.joint_rule import joined
from app.limiter.keys import CLUSTER_SLOTS, answer_name, meaning
from app.limiter.redis import store as redis_store
from app.limiter.redis.packing import packed
from app.limiter.redis.store import TOGETHER, RedisStore, connect
from app.rules.rule import ALGORITHMS, Limit, Rule
from devstack import Valkey, runtime_directory
from tests.support.deciders import START, new_client
from tests.support.examples import examples
from tests.support.node import free_port
from tests.support.topologies import eventually

MIXED = tuple(Limit(7 + place, 60 * (place + 1), name, counter=place) for place, name in enumerate(ALGORITHMS))
RULES = [
    *(Rule(id=10 + place, client_id="*", limits=(Limit(5, 60, name),)) for place, name in enumerate(ALGORITHMS)),
    Rule(id=20, client_id="*", limits=(Limit(2, 1, "gcra", counter=1), Limit(4, 60, "gcra", counter=2))),
    Rule(id=21, client_id="*", limits=MIXED),
    Rule(id=20, client_id="*", limits=(Limit(3, 1, "gcra", counter=1), Limit(4, 60, "gcra", counter=2))),  # edited
]
PLANS = [CompiledRule(rule) for rule in RULES]
# Rules that decide together: counters of the client, and counters that all clients of one of two groups share.
JOINTS = [
    joined([PLANS[0], PLANS[1]], (0, 1)),
    joined([PLANS[0], PLANS[5], PLANS[4]], (0, 1, 1)),
    joined([PLANS[6], PLANS[0]], (0, 1)),
    joined([PLANS[1]], (1,)),
]


class Asked(NamedTuple):
    """By one of two clients, as one of a group. `request_id` counts for the plan's client."""

    compiled: int
    client: int
    cost: int
    request_id: str | None
    group: int = 0


ASKED = st.builds(
    Asked,
    compiled=st.integers(-len(JOINTS), len(PLANS) - 1),
    client=st.integers(0, 1),
    cost=st.sampled_from([1, 1, 1, 0, 2, 6, 10**9]),
    request_id=st.sampled_from([None, None, None, "a", "b"]),
    group=st.integers(0, 1),
)


def charges(asked: list[Asked]) -> list[Charge]:
    """For two clients and two groups that nobody else has."""
    clients, groups = (new_client(), new_client()), (new_client(), new_client())
    found = []
    for one in asked:
        compiled, client = [*PLANS, *JOINTS][one.compiled], clients[one.client]
        owners = (client, groups[one.group]) if one.compiled < 0 else ()
        found.append(Charge(compiled, client, one.cost, _once(one, compiled) if one.cost else None, owners))
    return found


def _once(asked: Asked, compiled: CompiledRule) -> ChargeRecord | None:
    if asked.request_id is None:
        return None
    name = answer_name(asked.request_id, shadow=False)
    return ChargeRecord(name, meaning("key", asked.cost) + compiled.terms)


def described(outcome: Outcome | StoreError) -> object:
    return str(outcome) if isinstance(outcome, StoreError) else outcome


@settings(deadline=None, max_examples=examples(150), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(trips=st.lists(st.lists(ASKED, min_size=1, max_size=80), min_size=1, max_size=3))
def test_together_as_alone(store: RedisStore, trips: list[list[Asked]]) -> None:
    every = [asked for trip in trips for asked in trip]
    together, alone = charges(every), charges(every)
    place = 0
    for number, trip in enumerate(trips):
        now_us = START + number * 700_000
        found = store.check(together[place : place + len(trip)], now_us)
        one_by_one = [store.check([charge], now_us)[0] for charge in alone[place : place + len(trip)]]
        assert list(map(described, found)) == list(map(described, one_by_one))
        place += len(trip)


def test_a_check_that_cannot_be_decided_hinders_no_other(store: RedisStore, redis_client: redis.Redis) -> None:
    trip = charges([Asked(0, 0, 1, None), Asked(1, 0, 1, None), Asked(0, 1, 1, "a"), Asked(0, 0, 1, None)])
    redis_client.sadd(trip[1].client + trip[1].compiled.counter_names[0], "something else")
    first, broken, other, last = store.check(trip)
    assert isinstance(broken, StoreFault)
    assert "WRONGTYPE" in str(broken)
    assert [isinstance(o, Outcome) and o.remaining for o in (first, other, last)] == [4, 4, 3]


def test_a_conflict_is_one_of_that_check_alone(store: RedisStore) -> None:
    trip = charges([Asked(0, 0, 1, "a"), Asked(0, 0, 2, "a"), Asked(0, 0, 1, "a"), Asked(0, 0, 1, None)])
    first, conflict, repeated, last = store.check(trip)
    assert isinstance(conflict, RequestIdConflict)
    assert repeated == first
    assert isinstance(last, Outcome)
    assert last.remaining == 3


def test_more_than_go_in_one_call_are_decided_in_order(store: RedisStore) -> None:
    compiled = CompiledRule(Rule(id=1, client_id="*", limits=(Limit(150, 60, "fixed_window"),)))
    outcomes = store.check([Charge(compiled, new_client(), 1)] * (3 * TOGETHER))
    allowed = [isinstance(outcome, Outcome) and outcome.allowed for outcome in outcomes]
    assert allowed == [True] * 150 + [False] * (len(outcomes) - 150)


def test_a_server_that_wants_one_slot_a_call_is_asked_check_by_check(tmp_path: Path) -> None:
    """A cluster of one under the URL of a single server, as some providers run it."""
    options = {"cluster-enabled": "yes", "cluster-port": str(free_port())}
    with (
        runtime_directory() as sockets,
        Valkey(data_dir=tmp_path, socket_dir=sockets, durable=False, port=free_port(), options=options) as one,
    ):
        with redis.Redis.from_url(one.url) as client:
            client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, CLUSTER_SLOTS - 1)
            eventually(lambda: b"cluster_state:ok" in client.execute_command("CLUSTER", "INFO"))
        store = RedisStore(connect(one.url, timeout_ms=5000, clock=time.monotonic))
        trip = [Charge(PLANS[0], new_client(), 1) for _ in range(10)]
        for remaining in (4, 3):
            outcomes = store.check(trip)
            assert [isinstance(o, Outcome) and o.remaining for o in outcomes] == [remaining] * 10


def test_a_script_that_stays_unknown_is_an_error_that_is_counted(
    store: RedisStore, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_store, "LOADS", (packed(b"SCRIPT", b"LOAD", b"return 1"),))

    def counted() -> float:
        return REGISTRY.get_sample_value("ratelimiter_redis_errors_total", {"operation": "check"}) or 0

    before = counted()
    redis_client.script_flush()
    outcomes = store.check(charges([Asked(0, 0, 1, None), Asked(0, 1, 1, None)]))
    assert all(isinstance(outcome, StoreFault) for outcome in outcomes)
    assert counted() == before + 2
    monkeypatch.undo()
    store.load_scripts()
