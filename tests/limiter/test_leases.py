"""Leases on the real server: what is granted is charged at once, and what comes back is as if never charged."""

from __future__ import annotations

import pytest
import redis
from msgspec.structs import replace

from app.limiter.compiled_rule import Charge, ChargeRecord
from app.limiter.decision import LeaseOutcome
from app.limiter.errors import StoreFault
from app.limiter.redis.scripts import lease_release_script, lease_script
from app.limiter.redis.store import RedisStore
from app.rules.rule import BUCKET_ALGORITHMS, Limit
from tests.support.deciders import SECOND, START
from tests.support.leasing import Leaser


def test_a_lease_takes_what_is_there_and_a_return_gives_it_back(store: RedisStore, algorithm: str) -> None:
    subject = Leaser(store, [Limit(10, 60, algorithm)])
    assert subject.check(3, START).allowed
    granted = subject.lease(5, START)
    assert (granted.permits, granted.allowed, granted.remaining, granted.retry_after_us) == (5, True, 2, 0)
    assert subject.lease(5, START).permits == 2
    nothing = subject.lease(5, START)
    assert (nothing.permits, nothing.allowed, nothing.remaining) == (0, False, 0)
    assert nothing.retry_after_us == subject.check(1, START).retry_after_us
    assert subject.give_back(0, 4, START) == 4
    assert subject.remaining(START) == 4
    assert subject.give_back(0, 5, START + 1) == 4
    assert subject.remaining(START) == 4
    assert subject.give_back(2, 1, START) == -1


def test_more_than_was_granted_is_never_credited(store: RedisStore, algorithm: str) -> None:
    subject = Leaser(store, [Limit(10, 60, algorithm)])
    subject.check(6, START)
    assert subject.lease(10, START).permits == 4
    assert subject.give_back(0, 10**9, START) == 4
    assert subject.remaining(START) == 4


def test_what_has_expired_counts_as_used(store: RedisStore, algorithm: str) -> None:
    subject = Leaser(store, [Limit(10, 60, algorithm)])
    for expires in (START + 5, START + 6):
        subject.lease(2, START, ttl_us=expires - START)
    assert subject.give_back(0, 2, START + 5) == -1
    assert subject.give_back(1, 2, START + 5) == 2
    assert subject.remaining(START + 5) == 8


def test_a_window_that_has_ended_gets_nothing_back(store: RedisStore, algorithm: str) -> None:
    subject = Leaser(store, [Limit(10, 60, algorithm)])
    for _ in range(2):
        subject.lease(4, START, ttl_us=3600 * SECOND)
    later = START + 121 * SECOND  # even the counter has forgotten it
    assert subject.give_back(0, 4, later) == 0
    assert subject.check(8, later).allowed
    assert subject.give_back(1, 4, later) == 0
    assert subject.remaining(later) == 2


def test_what_an_idle_holder_keeps_is_nobodys_until_he_returns_it_or_the_limit_refills(
    store: RedisStore, algorithm: str
) -> None:
    subject = Leaser(store, [Limit(10, 60, algorithm)])
    for permits in (7, 3):
        assert subject.lease(permits, START, ttl_us=SECOND).permits == permits
    assert not subject.check(1, START).allowed
    assert subject.give_back(1, 3, START) == 3
    assert [subject.check(1, START).allowed for _ in range(4)] == [True] * 3 + [False]
    assert not subject.check(2, START + SECOND).allowed  # the other has expired, and counts as used
    assert subject.check(10, START + 120 * SECOND).allowed


@pytest.mark.parametrize("order", [1, -1])
def test_of_several_limits_each_gets_what_still_counts_there(store: RedisStore, order: int) -> None:
    short, long = Limit(10, 1, "fixed_window", counter=1), Limit(100, 3600, "sliding_window", counter=2)
    subject = Leaser(store, [short, long][::order])
    assert subject.lease(50, START).permits == 10
    later = START + SECOND
    assert subject.check(4, later).allowed
    assert subject.give_back(0, 7, later) == 7  # as many as the long one, and none of the short one
    assert subject.each_remaining(later) == [6, 93][::order]


def test_a_clock_that_stepped_back_gives_nothing_of_another_window(store: RedisStore) -> None:
    subject = Leaser(store, [Limit(10, 60, "fixed_window")])
    subject.lease(5, START, ttl_us=3600 * SECOND)
    earlier = START - 600 * SECOND
    subject.check(1, earlier)
    assert subject.check(8, earlier + 60 * SECOND).allowed
    assert subject.give_back(0, 5, earlier + 60 * SECOND) == 0
    assert subject.remaining(earlier + 60 * SECOND) == 2


def test_of_a_limit_that_was_cut_meanwhile_no_more_is_given_back_than_it_counts(
    store: RedisStore, algorithm: str
) -> None:
    subject = Leaser(store, [Limit(10, 60, algorithm)])
    subject.lease(9, START)
    subject.edit([Limit(5, 60, algorithm)])
    subject.check(1, START - 1)  # the clock stepped back: what counts is stored anew, cut
    subject.give_back(0, 9, START - 1)
    # Windows know. The log knows units by the time they were logged; a bucket may have forgotten them by the cut.
    assert subject.remaining(START - 1) == (5 if "window" in algorithm and algorithm != "sliding_window" else 0)


@pytest.mark.parametrize("algorithm", BUCKET_ALGORITHMS)
@pytest.mark.parametrize("edited", [Limit(60, 60, burst=5), Limit(6, 60, burst=10), Limit(600, 60, burst=10)])
def test_an_edited_bucket_that_was_charged_since_has_forgotten_what_it_held(
    store: RedisStore, algorithm: str, edited: Limit
) -> None:
    subject = Leaser(store, [Limit(60, 60, algorithm, burst=10)])
    subject.lease(9, START)
    subject.edit([replace(edited, algorithm=algorithm)])
    assert subject.check(1, START + 2 * SECOND).allowed
    before = subject.remaining(START + 2 * SECOND)
    assert subject.give_back(0, 5, START + 2 * SECOND) == 0
    assert subject.remaining(START + 2 * SECOND) == before


def test_the_counter_takes_back_what_its_window_before_still_counts(store: RedisStore) -> None:
    subject = Leaser(store, [Limit(10, 60, "sliding_window_counter")])
    subject.lease(8, START, ttl_us=3600 * SECOND)
    later = (START // (60 * SECOND) + 1) * 60 * SECOND + 45 * SECOND  # a quarter of it is still in sight
    assert subject.check(3, later).remaining == 5
    assert subject.give_back(0, 8, later) == 8
    assert subject.remaining(later) == 7


def test_a_clock_that_was_ahead_leaves_nothing_to_take_back_in_the_counter(store: RedisStore) -> None:
    subject = Leaser(store, [Limit(10, 60, "sliding_window_counter")])
    subject.lease(5, START)
    for windows in (9, 10):
        assert subject.check(4, START + windows * 60 * SECOND).allowed
    before = subject.remaining(START + 1)
    assert subject.give_back(0, 5, START + 1) == 0
    assert subject.remaining(START + 1) == before


def test_a_log_is_searched_back_a_thousand_entries(store: RedisStore, redis_client: redis.Redis) -> None:
    subject = Leaser(store, [Limit(5000, 60, "sliding_window")])
    subject.check(7, START)
    for _ in range(2):
        subject.lease(5, START + 1)
    for number in range(999):
        subject.check(2, START + 2 + number)
    key = subject.client + subject.compiled.counter_names[0]
    length, before = redis_client.strlen(key), subject.remaining(START + 2000)
    assert subject.give_back(0, 3, START + 2000) == 3
    assert subject.remaining(START + 2000) == before + 3
    subject.check(2, START + 2000)
    subject.check(2, START + 2001)
    assert subject.give_back(1, 5, START + 2001) == 0
    assert subject.remaining(START + 2001) == before + 3 - 4
    assert redis_client.strlen(key) == length + 2 * 16
    totals = totals_of(redis_client, key)
    assert totals == sorted(totals)


def test_the_same_instant_is_told_apart_by_its_units(store: RedisStore, redis_client: redis.Redis) -> None:
    subject = Leaser(store, [Limit(100, 60, "sliding_window")])
    for units in (3, 40, 2):
        assert subject.lease(units, START).permits == units
    for number, units in ((1, 40), (0, 3), (2, 2)):
        assert subject.give_back(number, units, START) == units
    assert subject.remaining(START) == 100
    assert totals_of(redis_client, subject.client + subject.compiled.counter_names[0]) == [0] * 3


TOTALS = """
local log, totals = redis.call('GET', KEYS[1]), {}
for start = 25, #log, 16 do
  totals[#totals + 1] = select(2, struct.unpack('<dd', log, start))
end
return totals
"""


def totals_of(client: redis.Redis, log: bytes) -> list[int]:
    """Of the entries, oldest first."""
    totals: list[int] = client.eval(TOTALS, 1, log)
    return totals


def test_a_lease_is_kept_until_it_expires_and_a_return_prolongs_nothing(
    store: RedisStore, redis_client: redis.Redis, algorithm: str
) -> None:
    subject = Leaser(store, [Limit(10, 60, algorithm)])

    def ask(charge: Charge) -> int:
        [outcome] = store.check([charge])  # by Redis's own clock
        assert isinstance(outcome, LeaseOutcome)
        return outcome.permits

    lease = ChargeRecord(subject.name(0), b"2500000", lease_script())
    assert ask(Charge(subject.compiled, subject.client, 4, lease)) == 4
    keys = [subject.client + subject.compiled.counter_names[0], subject.client + lease.name]
    assert 2000 < redis_client.pttl(keys[1]) <= 2500
    assert redis_client.memory_usage(keys[1]) <= 160
    expire = [redis_client.pexpiretime(key) for key in keys]
    assert (
        ask(Charge(subject.compiled, subject.client, 4, ChargeRecord(lease.name, script=lease_release_script()))) == 4
    )
    assert [redis_client.pexpiretime(key) for key in keys] == expire


def test_nothing_granted_keeps_no_lease(store: RedisStore, redis_client: redis.Redis, algorithm: str) -> None:
    subject = Leaser(store, [Limit(10, 60, algorithm)])
    subject.lease(10, START)
    before = redis_client.dump(subject.client + subject.compiled.counter_names[0])
    assert subject.lease(1, START).permits == 0
    assert redis_client.dump(subject.client + subject.compiled.counter_names[0]) == before
    assert not redis_client.exists(subject.client + subject.name(1))


def test_injected_time_keeps_leases_for_an_hour(store: RedisStore, redis_client: redis.Redis) -> None:
    subject = Leaser(store, [Limit(10, 60, "gcra")])
    subject.lease(1, START, ttl_us=1)
    assert redis_client.pttl(subject.client + subject.name(0)) > 3_500_000


def test_a_counter_that_was_reset_gets_nothing_back(
    store: RedisStore, redis_client: redis.Redis, algorithm: str
) -> None:
    subject = Leaser(store, [Limit(10, 60, algorithm)])
    subject.lease(5, START)
    redis_client.delete(subject.client + subject.compiled.counter_names[0])
    assert subject.give_back(0, 5, START) == 0
    assert subject.remaining(START) == 10


def test_a_lease_of_a_counter_that_began_anew_is_not_found(store: RedisStore) -> None:
    subject = Leaser(store, [Limit(10, 60, "gcra", counter=1)])
    subject.lease(5, START)
    for edited, found in ((Limit(20, 60, "gcra", counter=1), 5), (Limit(10, 30, "gcra", counter=2), -1)):
        subject.edit([edited])
        assert subject.give_back(0, 5, START) == found


def test_lost_scripts_are_loaded_again(store: RedisStore, redis_client: redis.Redis) -> None:
    subject = Leaser(store, [Limit(10, 60, "gcra")])
    redis_client.script_flush()
    assert subject.lease(5, START).permits == 5
    redis_client.script_flush()
    assert subject.give_back(0, 5, START) == 5


def test_a_key_of_another_type_is_a_fault(store: RedisStore, redis_client: redis.Redis) -> None:
    subject = Leaser(store, [Limit(10, 60, "gcra")])
    redis_client.sadd(subject.client + subject.compiled.counter_names[0], "something else")
    [outcome] = store.check([Charge(subject.compiled, subject.client, 1, ChargeRecord(b":L:x", b"1", lease_script()))])
    assert isinstance(outcome, StoreFault)
