"""Random histories of checks, leases, returns and edits on the real server, against exact models."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from app.limiter.redis.store import RedisStore
from app.rules.rule import ALGORITHMS, BUCKET_ALGORITHMS, Limit
from tests.support.deciders import SECOND, START
from tests.support.examples import examples
from tests.support.leasing import History, Leaser, Taken

EXAMPLES = settings(
    max_examples=examples(120),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    print_blob=True,
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


def events(*what: str) -> st.SearchStrategy[list[Event]]:
    event = st.builds(
        Event,
        what=st.sampled_from(what),
        quarters=st.sampled_from([0, 0, 0, 0, 1, 2, 3, 5]),
        after_us=st.one_of(st.just(0), st.integers(1, 3), st.integers(0, SECOND)),
        units=st.integers(1, 12),
        ttl_us=st.one_of(st.integers(1, 5 * SECOND), st.just(60 * SECOND), st.just(60 * SECOND)),
        number=st.integers(0, 9),
    )
    return st.lists(event, min_size=6, max_size=25)


EVENTS = events("check", "lease", "return", "return again")
LIMITS = st.builds(
    Limit, st.integers(5, 60), st.integers(1, 12), st.sampled_from(ALGORITHMS), st.none() | st.integers(5, 60)
)
SMALL = st.builds(Limit, st.integers(5, 20), st.integers(3, 12), st.sampled_from(ALGORITHMS), st.integers(5, 12))
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
        # Buckets keep no history: of two charges after a lease they know the last, and what a return leaves to drain it
        # leaves at the rate of then. Until two charges or an edit a return is exact.
        self.exact = True
        self._had = {(self.limits[0].rate, self.limits[0].capacity)}

    def step(self, event: Event) -> None:
        self.now += event.quarters * self.limits[0].window_us // 4 + event.after_us
        if event.what == "edit":
            self._edit(event)
        elif event.what == "check":
            self._check(event.units)
        elif event.what == "lease" or not self.leases:
            self._lease(event)
        else:
            self._return(event)

    def judge(self) -> None:
        """Is left what would be, had only what was used been charged?"""
        for number, left in enumerate(self.subject.each_remaining(self.now)):
            limit, without = self.limits[number], self.history.remaining(self.limits, number, self.now)
            if limit.algorithm in BUCKET_ALGORITHMS and not self.exact:
                assert left <= without, limit
            else:
                assert left == without, limit

    def _check(self, units: int) -> None:
        if self.subject.check(units, self.now).allowed:
            self.history.taken.append(Taken(self.now, units, under=self.limits))

    def _edit(self, event: Event) -> None:
        """Another rate and burst of the first limit, such as it never had: an edit that was undone is not seen."""
        edited = replace(self.limits[0], rate=5 * event.units, burst=3 + event.number)
        terms = (edited.rate, edited.capacity)
        if terms not in self._had:
            self._had.add(terms)
            self.limits = [edited, *self.limits[1:]]
            self.subject.edit(self.limits)
            self.exact = False

    def _lease(self, event: Event) -> None:
        if not self._overlapping and self.history.outstanding(self.now):
            return
        before = self.subject.each_remaining(self.now)
        outcome = self.subject.lease(event.units, self.now, event.ttl_us)
        granted = min(event.units, *before)
        assert (outcome.permits, outcome.allowed) == (granted, granted > 0)
        assert self.subject.each_remaining(self.now) == [left - granted for left in before]
        until = self.now + event.ttl_us if granted else 0
        self.leases.append(Taken(self.now, granted, until, under=self.limits))
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


def judged(store: RedisStore, algorithm: str, limits: list[Limit], events: list[Event]) -> None:
    """Step by step. Of buckets only leases that do not overlap: of these a return is exact, or less."""
    buckets = algorithm in BUCKET_ALGORITHMS or any(limit.algorithm in BUCKET_ALGORITHMS for limit in limits)
    walk = Walk(store, algorithm, limits, overlapping=not buckets)
    for event in events:
        walk.step(event)
        walk.judge()


@EXAMPLES
@given(limits=ONE_OR_MORE, events=EVENTS)
def test_what_came_back_is_as_if_never_charged(
    store: RedisStore, algorithm: str, limits: list[Limit], events: list[Event]
) -> None:
    judged(store, algorithm, limits, events)


@EXAMPLES
@given(limits=st.lists(SMALL, min_size=1, max_size=2), events=events("check", "lease", "return", "edit"))
def test_of_edited_limits_no_more_comes_back_than_was_not_used(
    store: RedisStore, algorithm: str, limits: list[Limit], events: list[Event]
) -> None:
    judged(store, algorithm, limits, events)


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
