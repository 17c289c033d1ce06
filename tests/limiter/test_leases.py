"""Leases on the real server: what is granted is charged at once, and what comes back is as if never charged."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from app.limiter.decision import LeaseOutcome
from app.limiter.errors import StoreFault
from app.limiter.plan import Charge, Once
from app.limiter.redis_store import RedisStore
from app.limiter.scripts import lease_script, return_script
from app.rules.rule import ALGORITHMS, BUCKETS, Limit
from tests.support.deciders import SECOND, START
from tests.support.leasing import History, Leaser, Taken

EXAMPLES = settings(
    max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], print_blob=True
)


@dataclass(frozen=True)
class Event:
    """After quarters of the window and `after_us`: a check of `units`, a lease of as many for `ttl_us`, or as many
    back, of a lease that is out if there is one, or of any, or of one that there is not.
    """

    what: str
    quarters: int
    after_us: int
    units: int
    ttl_us: int
    number: int


EVENTS = st.lists(
    st.builds(
        Event,
        what=st.sampled_from(["check", "lease", "return", "return again"]),
        quarters=st.sampled_from([0, 0, 0, 1, 2, 3, 5]),
        after_us=st.one_of(st.just(0), st.integers(1, 3), st.integers(0, SECOND)),
        units=st.integers(1, 12),
        ttl_us=st.one_of(st.integers(1, 5 * SECOND), st.just(60 * SECOND), st.just(60 * SECOND)),
        number=st.integers(0, 9),
    ),
    min_size=6,
    max_size=25,
)
LIMITS = st.builds(
    Limit, st.integers(5, 60), st.integers(1, 12), st.sampled_from(ALGORITHMS), st.none() | st.integers(5, 60)
)
ONE_OR_MORE = st.lists(LIMITS, min_size=1, max_size=3)  # the first gets the algorithm that the test is about


class Walk:
    """A client on the server and its history, event by event."""

    def __init__(self, store: RedisStore, algorithm: str, limits: list[Limit], *, overlapping: bool = True) -> None:
        first = replace(limits[0], algorithm=algorithm)
        self.limits = [replace(limit, counter=number) for number, limit in enumerate([first, *limits[1:]])]
        self.subject = Leaser(store, self.limits)
        self.history = History()
        self.leases: list[Taken] = []
        self._overlapping = overlapping
        self.now = START
        # Buckets keep no history: of two charges after a lease they know the last. Until then a return is exact.
        self.exact = True

    def step(self, event: Event) -> None:
        self.now += event.quarters * self.limits[0].window_us // 4 + event.after_us
        if event.what == "check":
            self._check(event.units)
        elif event.what == "lease" or not self.leases:
            self._lease(event)
        else:
            self._return(event)

    def _check(self, units: int) -> None:
        if self.subject.check(units, self.now).allowed:
            self.history.taken.append(Taken(self.now, units))

    def _lease(self, event: Event) -> None:
        if not self._overlapping and self.history.outstanding(self.now):
            return
        before = self.subject.each_remaining(self.now)
        outcome = self.subject.lease(event.units, self.now, event.ttl_us)
        granted = min(event.units, *before)
        assert (outcome.permits, outcome.allowed) == (granted, granted > 0)
        assert self.subject.each_remaining(self.now) == [left - granted for left in before]
        self.leases.append(Taken(self.now, granted, self.now + event.ttl_us if granted else 0))
        if granted:
            self.history.taken.append(self.leases[-1])

    def _return(self, event: Event) -> None:
        out = [number for number, lease in enumerate(self.leases) if lease.returned_at is None and lease.units]
        chosen = out if out and event.what == "return" else range(len(self.leases) + 1)
        number = chosen[event.number % len(chosen)]
        if number == len(self.leases):
            assert self.subject.give_back(number, event.units, self.now) == -1
            return
        lease = self.leases[number]
        before = self.subject.each_remaining(self.now)
        returned = self.subject.give_back(number, event.units, self.now)
        if self.now >= lease.until:
            assert returned == -1
        elif lease.returned_at is None:
            lease.returned_at, lease.unused = self.now, min(event.units, lease.units)
            assert 0 <= returned <= lease.unused
            after = [each for each in self.history.taken if each.at >= lease.at and each is not lease]
            self.exact = self.exact and len(after) <= 1
            return
        assert self.subject.each_remaining(self.now) == before


@EXAMPLES
@given(limits=ONE_OR_MORE, events=EVENTS)
def test_what_came_back_is_as_if_never_charged(
    store: RedisStore, algorithm: str, limits: list[Limit], events: list[Event]
) -> None:
    buckets = algorithm in BUCKETS or any(limit.algorithm in BUCKETS for limit in limits)
    walk = Walk(store, algorithm, limits, overlapping=not buckets)
    for event in events:
        walk.step(event)
        for limit, left in zip(walk.limits, walk.subject.each_remaining(walk.now), strict=True):
            without = walk.history.remaining(limit, walk.now)
            if limit.algorithm in BUCKETS and not walk.exact:
                assert left <= without, limit
            else:
                assert left == without, limit


@EXAMPLES
@given(limits=ONE_OR_MORE, events=EVENTS)
def test_in_no_window_more_is_used_than_the_limit_and_what_was_out_before_it(
    store: RedisStore, algorithm: str, limits: list[Limit], events: list[Event]
) -> None:
    walk = Walk(store, algorithm, limits)
    for event in events:
        walk.step(event)
    for limit in walk.limits:
        assert walk.history.most_above(limit) <= 0, limit


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
    cut = Leaser(store, [Limit(5, 60, algorithm)])
    cut.client = subject.client
    cut.check(1, START - 1)  # the clock stepped back: what counts is stored anew, cut
    cut.give_back(0, 9, START - 1)
    # The log, which knows units by the time they were logged, no longer knows which they were.
    assert cut.remaining(START - 1) == (0 if algorithm == "sliding_window" else 5)


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
    key = subject.client + subject.plan.names[0]
    length, before = redis_client.llen(key), subject.remaining(START + 2000)
    assert subject.give_back(0, 3, START + 2000) == 3
    assert subject.remaining(START + 2000) == before + 3
    subject.check(2, START + 2000)
    subject.check(2, START + 2001)
    assert subject.give_back(1, 5, START + 2001) == 0
    assert subject.remaining(START + 2001) == before + 3 - 4
    assert redis_client.llen(key) == length + 4
    totals = list(map(int, redis_client.lrange(key, 0, -1)[1::2]))
    assert totals == sorted(totals)


def test_the_same_instant_is_told_apart_by_its_units(store: RedisStore, redis_client: redis.Redis) -> None:
    subject = Leaser(store, [Limit(100, 60, "sliding_window")])
    for units in (3, 40, 2):
        assert subject.lease(units, START).permits == units
    for number, units in ((1, 40), (0, 3), (2, 2)):
        assert subject.give_back(number, units, START) == units
    assert subject.remaining(START) == 100
    totals = list(map(int, redis_client.lrange(subject.client + subject.plan.names[0], 0, -1)[1::2]))
    assert totals == [0] * 4


def test_a_lease_is_kept_until_it_expires_and_a_return_prolongs_nothing(
    store: RedisStore, redis_client: redis.Redis, algorithm: str
) -> None:
    subject = Leaser(store, [Limit(10, 60, algorithm)])

    def ask(charge: Charge) -> int:
        [outcome] = store.check([charge])  # by Redis's own clock
        assert isinstance(outcome, LeaseOutcome)
        return outcome.permits

    lease = Once(subject.name(0), b"2500000", lease_script())
    assert ask(Charge(subject.plan, subject.client, 4, lease)) == 4
    keys = [subject.client + subject.plan.names[0], subject.client + lease.name]
    assert 2000 < redis_client.pttl(keys[1]) <= 2500
    assert redis_client.memory_usage(keys[1]) <= 160
    expire = [redis_client.pexpiretime(key) for key in keys]
    assert ask(Charge(subject.plan, subject.client, 4, Once(lease.name, script=return_script()))) == 4
    assert [redis_client.pexpiretime(key) for key in keys] == expire


def test_nothing_granted_keeps_no_lease(store: RedisStore, redis_client: redis.Redis, algorithm: str) -> None:
    subject = Leaser(store, [Limit(10, 60, algorithm)])
    subject.lease(10, START)
    before = redis_client.dump(subject.client + subject.plan.names[0])
    assert subject.lease(1, START).permits == 0
    assert redis_client.dump(subject.client + subject.plan.names[0]) == before
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
    redis_client.delete(subject.client + subject.plan.names[0])
    assert subject.give_back(0, 5, START) == 0
    assert subject.remaining(START) == 10


def test_a_lease_of_a_counter_that_began_anew_is_not_found(store: RedisStore) -> None:
    subject = Leaser(store, [Limit(10, 60, "gcra", counter=1)])
    subject.lease(5, START)
    for edited, found in ((Limit(20, 60, "gcra", counter=1), 5), (Limit(10, 30, "gcra", counter=2), -1)):
        now = Leaser(store, [edited])
        now.client = subject.client
        assert now.give_back(0, 5, START) == found


def test_lost_scripts_are_loaded_again(store: RedisStore, redis_client: redis.Redis) -> None:
    subject = Leaser(store, [Limit(10, 60, "gcra")])
    redis_client.script_flush()
    assert subject.lease(5, START).permits == 5
    redis_client.script_flush()
    assert subject.give_back(0, 5, START) == 5


def test_a_key_of_another_type_is_a_fault(store: RedisStore, redis_client: redis.Redis) -> None:
    subject = Leaser(store, [Limit(10, 60, "gcra")])
    redis_client.sadd(subject.client + subject.plan.names[0], "something else")
    [outcome] = store.check([Charge(subject.plan, subject.client, 1, Once(b":l:x", b"1", lease_script()))])
    assert isinstance(outcome, StoreFault)
