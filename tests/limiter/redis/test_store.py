"""What the scripts leave in Redis, and what the store makes of a Redis that misbehaves."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

import pytest
import redis
from msgspec.structs import replace

from app.limiter.compiled_rule import Charge, CompiledRule
from app.limiter.decision import Outcome
from app.limiter.errors import StoreFault, StoreUnavailable
from app.limiter.redis.store import RedisStore, connect
from app.rules.rule import MAX_LOGGED_RATE, Limit, Rule
from devstack import Valkey
from tests.support.deciders import START, new_client
from tests.support.talker import Talker


def charge(limit: Limit, cost: int = 1) -> Charge:
    """A charge under the key names of production, for a client of its own."""
    return Charge(CompiledRule(Rule(id=12345, client_id="*", limits=(limit,))), new_client(), cost)


def key_of(asked: Charge) -> bytes:
    return asked.client + asked.compiled.counter_names[0]


def outcome_of(store: RedisStore, asked: Charge, now_us: int | None = None) -> Outcome:
    outcome = store.check([asked], now_us)[0]
    assert isinstance(outcome, Outcome), outcome
    return outcome


def with_cost(asked: Charge, cost: int) -> Charge:
    return Charge(asked.compiled, asked.client, cost)


def test_a_peek_and_a_denial_write_nothing(store: RedisStore, redis_client: redis.Redis, algorithm: str) -> None:
    asked = charge(Limit(5, 60, algorithm), cost=5)
    outcome_of(store, with_cost(asked, 0))
    assert not redis_client.exists(key_of(asked))
    assert outcome_of(store, asked).allowed

    def stored() -> tuple[object, object]:
        return redis_client.dump(key_of(asked)), redis_client.expiretime(key_of(asked))

    before = stored()
    assert not outcome_of(store, asked).allowed
    assert outcome_of(store, with_cost(asked, 0)).allowed
    assert stored() == before


def test_a_denial_sends_no_write_command(store: RedisStore, redis_client: redis.Redis, algorithm: str) -> None:
    asked = charge(Limit(5, 60, algorithm), cost=5)
    assert outcome_of(store, asked, START).allowed
    redis_client.config_resetstat()
    assert not outcome_of(store, asked, START).allowed
    assert (
        not {"cmdstat_set", "cmdstat_pexpire", "cmdstat_setrange", "cmdstat_append"}
        & redis_client.info("commandstats").keys()
    )


def test_every_key_lives_until_its_state_means_nothing(
    store: RedisStore, redis_client: redis.Redis, algorithm: str
) -> None:
    asked = charge(Limit(7, 60, algorithm), cost=3)
    outcome = outcome_of(store, asked)
    expires_us = redis_client.pexpiretime(key_of(asked)) * 1000
    means_nothing_us = outcome.now_us + outcome.reset_after_us
    assert means_nothing_us <= expires_us <= means_nothing_us + 50_000  # rounding up, and the script's own time


def test_injected_time_keeps_keys_for_an_hour(store: RedisStore, redis_client: redis.Redis, algorithm: str) -> None:
    asked = charge(Limit(7, 1, algorithm))
    outcome_of(store, asked, START)
    assert redis_client.pttl(key_of(asked)) > 3_500_000


@pytest.mark.parametrize("algorithm", ["token_bucket", "gcra"])
def test_after_a_lowered_rate_a_denied_client_is_remembered_longer(
    store: RedisStore, redis_client: redis.Redis, algorithm: str
) -> None:
    asked = charge(Limit(1000, 1, algorithm, burst=2000), cost=2000)
    outcome_of(store, asked)
    assert redis_client.pttl(key_of(asked)) <= 2002
    lowered = Charge(
        CompiledRule(replace(asked.compiled.rule, limits=(Limit(1, 1, algorithm, burst=2000),))), asked.client, 1000
    )
    denied = outcome_of(store, lowered)
    assert not denied.allowed
    assert redis_client.pttl(key_of(asked)) * 1000 >= denied.reset_after_us - 1_000_000
    outcome_of(store, lowered)
    assert outcome_of(store, with_cost(lowered, 0)).remaining < 1000


@pytest.mark.parametrize("algorithm", ["token_bucket", "gcra", "fixed_window", "sliding_window_counter"])
def test_a_client_takes_at_most_120_bytes(store: RedisStore, redis_client: redis.Redis, algorithm: str) -> None:
    asked = charge(Limit(1000, 3600, algorithm), cost=123)
    outcome_of(store, asked)
    assert redis_client.memory_usage(key_of(asked)) <= 120


def test_the_log_takes_at_most_34_bytes_an_entry_and_stays_cheap(store: RedisStore, redis_client: redis.Redis) -> None:
    window_us = 3_600_000_000
    asked = charge(Limit(MAX_LOGGED_RATE, 3600, "sliding_window"))
    for start in range(0, MAX_LOGGED_RATE, 1000):
        store.check([asked] * 1000, START + start)
    assert redis_client.strlen(key_of(asked)) == 24 + 16 * MAX_LOGGED_RATE
    assert redis_client.memory_usage(key_of(asked), samples=0) <= 34 * MAX_LOGGED_RATE
    assert not outcome_of(store, asked, START + MAX_LOGGED_RATE).allowed
    assert reads(redis_client, lambda: outcome_of(store, asked, START + MAX_LOGGED_RATE)) <= 3  # full: O(1)
    half_left = START + window_us + MAX_LOGGED_RATE // 2 - 1
    # The searches for what is left, and for what has to leave, are the longest there are.
    assert reads(redis_client, lambda: outcome_of(store, with_cost(asked, 75_000), half_left)) <= 35
    assert outcome_of(store, with_cost(asked, 50_000), half_left).allowed
    # A third was cut off, half is what counts.
    assert redis_client.strlen(key_of(asked)) == 24 + 16 * (MAX_LOGGED_RATE // 2 + 1)


def test_each_entry_of_the_log_is_found_when_it_leaves(store: RedisStore) -> None:
    """Among so many that a search halves them twice and ends with the longest piece that it reads."""
    count, window_us = 96, 60_000_000
    asked = charge(Limit(count, 60, "sliding_window"))
    for place in range(count):
        assert outcome_of(store, asked, START + place).allowed
    costs = range(1, count + 1)
    waits = [outcome_of(store, with_cost(asked, cost), START + count).retry_after_us for cost in costs]
    assert waits == [window_us - count + place for place in range(count)]
    times = (START + window_us + place for place in range(count))
    left = [outcome_of(store, with_cost(asked, 0), now_us).remaining for now_us in times]
    assert left == list(costs)


def reads(client: redis.Redis, ask: Callable[[], object]) -> int:
    """How many entries of a log are read for it."""
    client.config_resetstat()
    ask()
    calls: int = client.info("commandstats")["cmdstat_getrange"]["calls"]
    return calls


def test_a_charge_drops_the_entries_that_have_left_the_window(store: RedisStore, redis_client: redis.Redis) -> None:
    asked = charge(Limit(10, 60, "sliding_window"))
    for now_us in (START, START + 1, START + 2):
        assert outcome_of(store, asked, now_us).allowed
    assert redis_client.strlen(key_of(asked)) == 24 + 16 * 3
    assert outcome_of(store, asked, START + 60_000_001).allowed
    assert redis_client.strlen(key_of(asked)) == 24 + 16 * 2  # the one of START + 2, and the new one


def test_a_batch_is_one_trip_decided_in_order(store: RedisStore) -> None:
    asked = charge(Limit(3, 60, "fixed_window"))
    outcomes = store.check([asked] * 5)
    assert [isinstance(o, Outcome) and o.allowed for o in outcomes] == [True, True, True, False, False]


def test_the_largest_batch_is_no_timeout_while_redis_answers(valkey: Valkey) -> None:
    """Ten thousand limits take several times the timeout, which is for silence."""
    store = RedisStore(connect(valkey.url, timeout_ms=50, clock=time.monotonic))
    while not store.ping():
        pass
    limits = tuple(Limit(100, 60, "sliding_window", counter=number) for number in range(8))
    compiled = CompiledRule(Rule(id=12345, client_id="*", limits=limits))
    outcomes = store.check([Charge(compiled, new_client(), 1) for _ in range(1000)])
    assert all(isinstance(outcome, Outcome) for outcome in outcomes)


def test_a_flushed_script_is_loaded_again_for_the_calls_that_missed_it(
    store: RedisStore, redis_client: redis.Redis, algorithm: str
) -> None:
    asked = charge(Limit(3, 60, algorithm))
    redis_client.script_flush()
    outcomes = store.check([asked, asked, charge(Limit(1, 1, "gcra"))])
    assert [isinstance(o, Outcome) and o.remaining for o in outcomes] == [2, 1, 0]


def test_a_key_of_another_type_is_a_fault_of_that_check_alone(store: RedisStore, redis_client: redis.Redis) -> None:
    broken, sound = charge(Limit(3, 60, "gcra")), charge(Limit(3, 60, "gcra"))
    redis_client.sadd(key_of(broken), "something else")
    first, second = store.check([broken, sound])
    assert isinstance(first, StoreFault)
    assert isinstance(second, Outcome)


def test_an_unreachable_server_is_unavailable(tmp_path: object) -> None:
    with pytest.raises(StoreUnavailable):
        RedisStore(connect(f"unix://{tmp_path}/nobody.sock", timeout_ms=50, clock=time.monotonic)).check(
            [charge(Limit(3, 60, "gcra"))]
        )


@pytest.mark.parametrize("refusal", ["LOADING", "READONLY", "CLUSTERDOWN", "MISCONF"])
def test_a_server_that_cannot_serve_is_unavailable(refusal: str) -> None:
    with Talker(f"-{refusal} for the test\r\n".encode()) as server:
        outcome = RedisStore(connect(server.url, timeout_ms=5000, clock=time.monotonic)).check(
            [charge(Limit(3, 60, "gcra"))]
        )[0]
    assert isinstance(outcome, StoreUnavailable)


def test_a_check_whose_answer_was_lost_is_never_sent_again() -> None:
    with Talker(b"") as server, pytest.raises(StoreUnavailable):
        RedisStore(connect(server.url, timeout_ms=5000, clock=time.monotonic)).check([charge(Limit(3, 60, "gcra"))])
    assert server.heard.count(b"EVALSHA") == 1


def test_a_stopped_server_is_given_up_after_the_timeout_and_found_again(valkey: Valkey) -> None:
    store = RedisStore(connect(valkey.url, timeout_ms=50, clock=time.monotonic))
    os.kill(valkey.pid, signal.SIGSTOP)
    try:
        with pytest.raises(StoreUnavailable):
            store.check([charge(Limit(3, 60, "gcra"))])
        assert not store.ping()
    finally:
        os.kill(valkey.pid, signal.SIGCONT)
    assert any(store.ping() for _ in range(100))
